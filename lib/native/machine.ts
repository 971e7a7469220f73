/**
 * What this process may take of the machine: one answer for memory and one for threads. A container, a service manager
 * or a shell may give a process a fraction of what the machine has, and a default that does not know this ends in
 * SIGKILL.
 *
 * Sources: cgroups(7) and the kernel's cgroup-v1/memory and cgroup-v2 documents; getrlimit(2); proc_pid_status(5).
 */

import { readFileSync } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import { join } from "node:path";

/** The machine as these functions see it; tests hand in one of their own. */
export interface MachineView {
  /** Text of a file below `/proc` or `/sys`, or null when it cannot be read. */
  read(path: string): string | null;
  totalBytes: number;
  /** What could be had without swapping, page cache included. */
  freeBytes: number;
  /** Processors that may be used, as far as the operating system says. */
  processors: number;
}

export interface MachineMemory {
  /** Of the machine. */
  totalBytes: number;
  /** What this process may still take. */
  availableBytes: number;
  /** The least of the limits that hold for this process; null when none does. */
  limitBytes: number | null;
  /** What has decided `availableBytes`. */
  boundBy: "machine" | "control group" | "address space";
}

export interface MachineThreads {
  /** Threads that can run at a time, at least 1. */
  count: number;
  /** What has decided it. */
  boundBy: "machine" | "affinity" | "quota";
}

/** @throws never: what cannot be read does not bound */
export function machineMemory(view: MachineView = thisMachine()): MachineMemory {
  const bounds: { by: MachineMemory["boundBy"]; available: number; limit: number | null }[] = [
    { by: "machine", available: view.freeBytes, limit: null },
    ...groupMemory(view).map(({ limit, used }) => ({
      by: "control group" as const,
      available: Math.max(0, limit - used),
      limit,
    })),
    ...addressSpace(view).map(({ limit, used }) => ({
      by: "address space" as const,
      available: Math.max(0, limit - used),
      limit,
    })),
  ];
  const least = bounds.reduce((best, bound) => (bound.available < best.available ? bound : best));
  const limits = bounds.flatMap(({ limit }) => (limit !== null && limit < view.totalBytes ? [limit] : []));
  return {
    totalBytes: view.totalBytes,
    availableBytes: Math.floor(least.available),
    limitBytes: limits.length === 0 ? null : Math.min(...limits),
    boundBy: least.by,
  };
}

/**
 * Processors of the machine, of the affinity and of the control groups' quota (rounded down: more threads would only be
 * stopped in turn).
 */
export function machineThreads(view: MachineView = thisMachine()): MachineThreads {
  const bounds: MachineThreads[] = [{ count: view.processors, boundBy: "machine" }];
  for (const count of affinities(view)) bounds.push({ count, boundBy: "affinity" });
  for (const quota of quotas(view)) bounds.push({ count: Math.floor(quota), boundBy: "quota" });
  const least = bounds.reduce((best, bound) => (bound.count < best.count ? bound : best));
  return { ...least, count: Math.max(1, least.count) };
}

/** This machine. @param root of `/proc` and `/sys`, for tests */
export function thisMachine(root = "/"): MachineView {
  return {
    read(path) {
      try {
        return readFileSync(join(root, path), "utf8");
      } catch {
        return null; // another system, an older kernel, the permission model
      }
    },
    totalBytes: totalmem(),
    freeBytes: freemem(),
    processors: availableParallelism(),
  };
}

const MOUNT = "/sys/fs/cgroup";

interface Groups {
  version: 1 | 2;
  folders: string[];
}

/**
 * Folders of the control groups that bind this process, from its own outwards: version 2, or one controller of version
 * 1.
 */
function groupsOf(view: MachineView, controller: string): Groups[] {
  const lines = (view.read("/proc/self/cgroup") ?? "").split("\n").filter((line) => line !== "");
  const places = lines.flatMap((line): (Omit<Groups, "folders"> & { mounts: string[]; path: string })[] => {
    const [id, controllers = "", ...rest] = line.split(":");
    const path = rest.join(":");
    if (id === "0" && controllers === "") return [{ version: 2, mounts: [MOUNT, `${MOUNT}/unified`], path }];
    if (!controllers.split(",").includes(controller)) return [];
    return [{ version: 1, mounts: [`${MOUNT}/${controllers}`, `${MOUNT}/${controller}`], path }];
  });
  return places.flatMap(({ version, mounts, path }) =>
    mounts.map((mount) => {
      // Inside a container the path may be the host's, of which nothing is mounted but the group itself, at the mount's
      // root.
      const parts = path.split("/").filter((part) => part !== "" && part !== "..");
      const folders = parts.map((_, index) => join(mount, ...parts.slice(0, parts.length - index)));
      return { version, folders: [...folders, mount] };
    }),
  );
}

function groupMemory(view: MachineView): { limit: number; used: number }[] {
  return groupsOf(view, "memory").flatMap(({ version, folders }) =>
    folders.flatMap((folder) => {
      const [limitFiles, usedFile, prefix] =
        version === 2
          ? ([["memory.max", "memory.high"], "memory.current", ""] as const)
          : ([["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_"] as const);
      const used = numberIn(view, join(folder, usedFile));
      const stat = view.read(join(folder, "memory.stat"));
      // Pages of files, which the kernel takes back before it kills.
      const reclaimable = (fieldIn(stat, `${prefix}inactive_file`) ?? 0) + (fieldIn(stat, `${prefix}active_file`) ?? 0);
      return limitFiles.flatMap((file) => {
        const limit = numberIn(view, join(folder, file));
        return limit === null || limit >= view.totalBytes
          ? []
          : [{ limit, used: Math.max(0, (used ?? 0) - reclaimable) }];
      });
    }),
  );
}

/** `ulimit -v`: what is mapped counts, used or not. */
function addressSpace(view: MachineView): { limit: number; used: number }[] {
  const limit = /^Max address space\s+(\d+)/m.exec(view.read("/proc/self/limits") ?? "")?.[1];
  const used = fieldIn(view.read("/proc/self/status"), "VmSize:");
  return limit === undefined ? [] : [{ limit: Number(limit), used: 1024 * (used ?? 0) }];
}

function affinities(view: MachineView): number[] {
  const own = /^Cpus_allowed_list:\s*(\S+)/m.exec(view.read("/proc/self/status") ?? "")?.[1];
  const groups = groupsOf(view, "cpuset").flatMap(({ version, folders }) => {
    const file = version === 2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus";
    return folders.map((folder) => view.read(join(folder, file))?.trim());
  });
  return [own, ...groups].flatMap((list) => {
    const count = countOf(list ?? "");
    return count > 0 ? [count] : [];
  });
}

/** `0-3,8` is five. */
function countOf(list: string): number {
  let count = 0;
  for (const part of list.split(",")) {
    const range = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (range !== null) count += Number(range[2] ?? range[1]) - Number(range[1]) + 1;
  }
  return count;
}

/** Processors' worth of time in each period. */
function quotas(view: MachineView): number[] {
  return groupsOf(view, "cpu").flatMap(({ version, folders }) =>
    folders.flatMap((folder) => {
      const words =
        version === 2
          ? (view.read(join(folder, "cpu.max")) ?? "").trim().split(/\s+/)
          : ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map((file) => view.read(join(folder, file))?.trim() ?? "");
      const [quota, period] = words.map(Number);
      return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? [quota / period] : [];
    }),
  );
}

function numberIn(view: MachineView, path: string): number | null {
  const text = view.read(path)?.trim() ?? "";
  return /^\d+$/.test(text) ? Number(text) : null; // "max" is no limit
}

/** The number after a name at the beginning of a line. */
function fieldIn(text: string | null, name: string): number | null {
  for (const line of (text ?? "").split("\n")) {
    const [key, value] = line.split(/\s+/);
    if (key === name && /^\d+$/.test(value ?? "")) return Number(value);
  }
  return null;
}
