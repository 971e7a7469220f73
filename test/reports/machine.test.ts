/** Item 9 of the log: what a process may take, from a tree of /proc and /sys like those of real containers. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { machineMemory, machineThreads, thisMachine } from "../../lib/native/machine.js";
import { scratchFolder } from "../support/cli.js";

const MIB = 2 ** 20;

/** A machine of 64 GiB, half of it free, and 16 processors, with these files. */
function machine(files: Record<string, string | number>) {
  const root = scratchFolder();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  return { ...thisMachine(root), totalBytes: 65_536 * MIB, freeBytes: 32_768 * MIB, processors: 16 };
}

const V2 = "/sys/fs/cgroup";

describe("memory", () => {
  const available = (files: Record<string, string | number>) => {
    const { availableBytes, limitBytes, boundBy } = machineMemory(machine(files));
    return [availableBytes / MIB, limitBytes === null ? null : limitBytes / MIB, boundBy];
  };

  test("nothing bounds it", () => {
    expect(available({})).toEqual([32_768, null, "machine"]);
    expect(available({ "/proc/self/cgroup": "0::/", [`${V2}/memory.max`]: "max" })).toEqual([32_768, null, "machine"]);
  });

  test("version 2: limit less use, but for the page cache; every level outwards counts", () => {
    const files = {
      "/proc/self/cgroup": "0::/pod/app",
      [`${V2}/pod/app/memory.max`]: "max",
      [`${V2}/pod/app/memory.current`]: 90 * MIB,
      [`${V2}/pod/memory.max`]: 110 * MIB,
      [`${V2}/pod/memory.current`]: 95 * MIB,
      [`${V2}/pod/memory.stat`]: `anon 1\ninactive_file ${40 * MIB}`,
    };
    expect(available(files)).toEqual([55, 110, "control group"]);
    expect(available({ ...files, [`${V2}/pod/app/memory.high`]: 100 * MIB })).toEqual([10, 100, "control group"]);
  });

  test("a path of the host of which only the group's own folder is mounted", () => {
    const files = { "/proc/self/cgroup": "0::/../../docker/abc", [`${V2}/memory.max`]: 200 * MIB };
    expect(available({ ...files, [`${V2}/memory.current`]: 50 * MIB })).toEqual([150, 200, "control group"]);
  });

  test("version 1, whose largest number is no limit", () => {
    const memory = `${V2}/memory/docker/abc`;
    const files = { "/proc/self/cgroup": "4:memory:/docker/abc\n0::/", [`${memory}/memory.usage_in_bytes`]: 60 * MIB };
    const limit = `${memory}/memory.limit_in_bytes`;
    expect(available({ ...files, [limit]: 110 * MIB })).toEqual([50, 110, "control group"]);
    expect(available({ ...files, [limit]: "9223372036854771712" })).toEqual([32_768, null, "machine"]);
  });

  test("ulimit -v", () => {
    const files = {
      "/proc/self/limits": `Max data size  unlimited unlimited bytes\nMax address space     ${3000 * MIB}   unlimited  bytes`,
      "/proc/self/status": `Name:\tnode\nVmSize:\t${1000 * 1024} kB`,
    };
    expect(available(files)).toEqual([2000, 3000, "address space"]);
  });
});

describe("threads", () => {
  const threads = (files: Record<string, string | number>) => {
    const { count, boundBy } = machineThreads(machine(files));
    return [count, boundBy];
  };

  test("machine, affinity, quota of either version", () => {
    expect(threads({})).toEqual([16, "machine"]);
    expect(threads({ "/proc/self/status": "Cpus_allowed_list:\t0-2,7" })).toEqual([4, "affinity"]);
    const v2 = { "/proc/self/cgroup": "0::/app" };
    expect(threads({ ...v2, [`${V2}/app/cpu.max`]: "250000 100000" })).toEqual([2, "quota"]);
    expect(threads({ ...v2, [`${V2}/app/cpu.max`]: "50000 100000" })).toEqual([1, "quota"]);
    expect(threads({ ...v2, [`${V2}/app/cpu.max`]: "max 100000" })).toEqual([16, "machine"]);
    expect(threads({ ...v2, [`${V2}/cpuset.cpus.effective`]: "0-7" })).toEqual([8, "affinity"]);
    const v1 = { "/proc/self/cgroup": "2:cpu,cpuacct:/app" };
    const quota = { [`${V2}/cpu,cpuacct/app/cpu.cfs_period_us`]: 100_000 };
    expect(threads({ ...v1, ...quota, [`${V2}/cpu,cpuacct/app/cpu.cfs_quota_us`]: 300_000 })).toEqual([3, "quota"]);
    expect(threads({ ...v1, ...quota, [`${V2}/cpu,cpuacct/app/cpu.cfs_quota_us`]: -1 })).toEqual([16, "machine"]);
  });
});
