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
