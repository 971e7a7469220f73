/** Options of loadModel and loadTokenizer, and where a model comes from. */

import { Type } from "@sinclair/typebox";
import type { ModelEvent } from "../model/events.js";
import { machineThreads } from "../native/machine.js";
import { checkObject, checkPath, fail, isUrl } from "./check.js";
import { dtype, SHAPE, strategy } from "./checkpoint.js";
import { bytes, callback, checkedBy, integer, listening, nested, oneOf, path, signal } from "./kinds.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

/** Where a model comes from: one safetensors file, a pair of PyTorch files, or the bundled digits model. */
export type ModelSource = string | URL | { var: string | URL; tokenizer: string | URL };

/** Where a tokenizer comes from: a file that holds one (alone or with a transformer), a pair, or the bundled model. */
export type TokenizerSource = string | URL | { tokenizer: string | URL; var?: string | URL };

/** The same as paths. */
export type SourcePaths = string | { var: string; tokenizer: string };

/** A device that may be asked for. `"auto"` takes the best one that works, and {@link Model.deviceReason} says why. */
export type Device = "auto" | "cpu" | "cuda" | `cuda:${number}`;

const DEVICE = /^(auto|cpu|cuda(:\d{1,4})?)$/;

const device = checkedBy<Device>(
  Type.String({ pattern: DEVICE.source }),
  (option, value) => {
    if (typeof value === "string" && DEVICE.test(value)) return value as Device;
    fail(option, value, '"auto", "cpu", "cuda" or "cuda:N"');
  },
  (_, word) => word,
);

/** The memory that holds every running generation's keys and values. */
export const KV_POOL = table({
  bytes: row(bytes(), "budget in bytes", {
    otherwise:
      "a quarter of the free memory (of the device), but room for at least one and at most 64 images at full depth",
  }),
  dtype: row(dtype, "number format of the KV pool; the narrow ones hold twice as many images", {
    otherwise: "f32 on the CPU, the model's on CUDA",
    flag: "--kv-dtype <dtype>",
  }),
});

export const LOAD = table({
  device: row(device, "auto, cpu, cuda or cuda:N", {
    otherwise: "NEXTSCALE_DEVICE, else auto",
    flag: "--device <device>",
    environment: "NEXTSCALE_DEVICE",
  }),
  dtype: row(
    oneOf("auto", "f32", "f16", "bf16"),
    "number format of weights and activations on a CUDA device; sums are f32, and f32 is slow there: for checking. auto: that of the file's matrices, bf16 for a file in f32. On the CPU only auto and f32 are possible",
    { default: "auto", flag: "--dtype <dtype>" },
  ),
  threads: row(integer(1, 1024), "worker threads of this model", { otherwise: "all cores", flag: "--threads <n>" }),
  kvPool: row(nested(KV_POOL), "the memory that holds every running generation's keys and values", { default: {} }),
  strategy: row(strategy, "choice of a subnet's blocks", {
    otherwise: "what the checkpoint was trained with, else even",
  }),
  ...SHAPE.rows,
  nativeBinding: row(path(), "path of a native binary to load instead of the packaged one (bundlers, Electron)"),
  onProgress: row(listening<[fraction: number]>(), "called with 0..1 while the weights are mapped, checked and packed"),
  onEvent: row(
    callback<(event: ModelEvent) => void>(),
    "told what every generation of this model does, as it happens: for logs and metrics; called synchronously, and what it throws is dropped after one warning",
  ),
  signal: row(signal(), "cancels the loading: the promise rejects with an AbortError"),
});

/** The memory that holds every running generation's keys and values. */
export interface KvPoolOptions extends OptionsOf<typeof KV_POOL> {}

/** Options of {@link loadModel}. */
export interface LoadOptions extends OptionsOf<typeof LOAD> {}

export const TOKENIZER = LOAD.pick(
  "device",
  "dtype",
  "threads",
  "weights",
  "sides",
  "residualMix",
  "nativeBinding",
  "onProgress",
  "signal",
);

/** Options of {@link loadTokenizer}; `sides` for a file that holds a tokenizer alone, which does not tell them. */
export interface TokenizerOptions extends OptionsOf<typeof TOKENIZER> {}

export type ResolvedLoadOptions = Resolved<
  typeof LOAD,
  { device: Device; deviceFrom: "option" | "environment" | "default"; threads: number }
>;

export function resolveLoadOptions(raw: unknown): ResolvedLoadOptions {
  const options = LOAD.read(raw);
  return { ...options, ...deviceOf(options.device), threads: options.threads ?? machineThreads().count };
}

/** Options of loadTokenizer: those of loadModel that are not about generating. */
export function resolveTokenizerOptions(raw: unknown): ResolvedLoadOptions {
  return resolveLoadOptions(TOKENIZER.read(raw));
}

/** A path, or `{ tokenizer }`, with the transformer's file beside it or not. */
export function checkTokenizerSource(source: unknown): string | { tokenizer: string; var?: string } | undefined {
  if (typeof source !== "object" || source === null || Array.isArray(source) || isUrl(source))
    return checkSource(source) as string | undefined;
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  const tokenizer = checkPath("source.tokenizer", pair.tokenizer);
  return pair.var === undefined ? { tokenizer } : { tokenizer, var: checkPath("source.var", pair.var) };
}

/** `undefined` and `"digits"` mean the bundled model. */
export function checkSource(source: unknown): SourcePaths | undefined {
  if (source === undefined || source === "digits") return undefined;
  if (typeof source === "string" || isUrl(source)) return checkPath("source", source);
  if (typeof source !== "object" || source === null || Array.isArray(source)) {
    fail("source", source, "a path or { var, tokenizer }");
  }
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  return { var: checkPath("source.var", pair.var), tokenizer: checkPath("source.tokenizer", pair.tokenizer) };
}

function deviceOf(option: Device | undefined): Pick<ResolvedLoadOptions, "device" | "deviceFrom"> {
  if (option !== undefined) return { device: option, deviceFrom: "option" };
  const { environment } = LOAD.rows.device;
  const fromEnvironment = process.env[environment];
  if (fromEnvironment) return { device: device.check(environment, fromEnvironment), deviceFrom: "environment" };
  return { device: "auto", deviceFrom: "default" };
}
