/** Options as run.json holds them: what is needed to continue a run from its folder alone. */

import { cpus, hostname } from "node:os";
import { resolve } from "node:path";
import { machineMemory, machineThreads } from "../native/machine.js";
import { isInitial, type TrainBase } from "../options/recipe.js";
import type { ResolvedTrainOptions } from "../options/train.js";
import type { TokenSource } from "../values/token-source.js";

/** Paths become absolute; functions, signals and open token sets are left out. */
export function recordOptions(options: ResolvedTrainOptions): Record<string, unknown> {
  const { resume: _, signal: __, onEvent: ___, nativeBinding: ____, base, tokens, heldout, output, ...rest } = options;
  return {
    base: absoluteBase(base),
    tokens: folderOf(tokens),
    ...(heldout !== undefined && { heldout: folderOf(heldout) }),
    output: resolve(output),
    ...rest,
  };
}

function absoluteBase(base: TrainBase): TrainBase {
  if (typeof base === "string") return base === "digits" ? base : resolve(base);
  if (isInitial(base)) return { ...base, tokenizer: resolve(base.tokenizer) };
  return { var: resolve(base.var), tokenizer: resolve(base.tokenizer) };
}

function folderOf(tokens: string | TokenSource): string | null {
  const folder = typeof tokens === "string" ? tokens : tokens.folder;
  return folder === undefined ? null : resolve(folder);
}

/** Options of earlier versions, by the names that they have now. */
const RENAMED: Record<string, string> = { average: "averageDecay", clip: "clipNorm" };

/** Recorded options or a recipe with the names of this version. Their order stays, which recipes are compared with. */
export function withPresentNames<T extends object>(recorded: T): T {
  const renamed = ([name, value]: [string, unknown]) => [
    RENAMED[name] ?? name,
    name === "optimizer" && typeof value === "object" && value !== null ? withPresentNames(value) : value,
  ];
  return Object.fromEntries(Object.entries(recorded).map(renamed)) as T;
}

/** Enough to open it: the rest is checked there. */
export function isRecordedBase(base: unknown): base is TrainBase {
  if (typeof base === "string") return true;
  if (typeof base !== "object" || base === null) return false;
  const { tokenizer, var: transformer, depth } = base as Record<string, unknown>;
  return typeof tokenizer === "string" && (typeof transformer === "string" || typeof depth === "number");
}

export function machineOf(threads: number): Record<string, string | number> {
  return {
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: machineThreads().count,
    memoryBytes: machineMemory().limitBytes ?? machineMemory().totalBytes,
    threads,
    host: hostname(),
    process: process.pid,
  };
}
