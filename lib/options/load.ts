/** Options of loadModel: type, range, names. The only place that reads the raw object. */

import { availableParallelism } from "node:os";
import type { ModelEvent } from "../model/events.js";
import type { Device, DType, LoadOptions, ModelSource, TokenizerOptions, TokenizerSource } from "../model/types.js";
import type { Strategy } from "../values/architecture.js";
import {
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkSignal,
  checkString,
  fail,
  optional,
} from "./check.js";

const KEYS = [
  "device",
  "dtype",
  "threads",
  "kvPool",
  "strategy",
  "heads",
  "sides",
  "residualMix",
  "nativeBinding",
  "onProgress",
  "onEvent",
  "signal",
] as const satisfies readonly (keyof LoadOptions)[];

export interface ResolvedLoadOptions {
  device: Device;
  deviceFrom: "option" | "environment" | "default";
  dtype: "auto" | DType;
  threads: number;
  kvBytes: number | undefined; // undefined: from the free memory, once the architecture is known
  kvDtype: DType | undefined; // undefined: what suits the device
  strategy: Strategy | undefined; // undefined: the checkpoint's
  heads: number | undefined;
  sides: number[] | undefined;
  residualMix: number | undefined;
  nativeBinding: string | undefined;
  onProgress: ((fraction: number) => void) | undefined;
  onEvent: ((event: ModelEvent) => void) | undefined;
  signal: AbortSignal | undefined;
}

export function resolveLoadOptions(raw: unknown): ResolvedLoadOptions {
  const options = checkObject("options", raw, KEYS);
  const pool = checkObject("kvPool", options.kvPool, ["bytes", "dtype"]);
  return {
    ...deviceOf(options.device),
    dtype: checkOneOf("dtype", options.dtype ?? "auto", ["auto", "f32", "f16", "bf16"]),
    threads: checkInteger("threads", options.threads ?? availableParallelism(), 1, 1024),
    kvBytes: optional(pool.bytes, (value) => checkInteger("kvPool.bytes", value, 1, Number.MAX_SAFE_INTEGER)),
    kvDtype: optional(pool.dtype, (value) => checkOneOf("kvPool.dtype", value, ["f32", "f16", "bf16"])),
    strategy: optional(options.strategy, (value) => checkOneOf("strategy", value, ["even", "nested"])),
    heads: optional(options.heads, (value) => checkInteger("heads", value, 1, 1024)),
    sides: optional(options.sides, checkSides),
    residualMix: optional(options.residualMix, (value) => checkNumber("residualMix", value, 0, 1)),
    nativeBinding: optional(options.nativeBinding, (value) => checkString("nativeBinding", value)),
    onProgress: optional(options.onProgress, (value) => checkFunction<(fraction: number) => void>("onProgress", value)),
    onEvent: optional(options.onEvent, (value) => checkFunction<(event: ModelEvent) => void>("onEvent", value)),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

const TOKENIZER_KEYS = [
  "device",
  "dtype",
  "threads",
  "sides",
  "residualMix",
  "nativeBinding",
  "onProgress",
  "signal",
] as const satisfies readonly (keyof TokenizerOptions)[];

/** Options of loadTokenizer: those of loadModel that are not about generating. */
export function resolveTokenizerOptions(raw: unknown): ResolvedLoadOptions {
  return resolveLoadOptions(checkObject("options", raw, TOKENIZER_KEYS));
}

/** A path, or `{ tokenizer }`, with the transformer's file beside it or not. */
export function checkTokenizerSource(source: unknown): TokenizerSource | undefined {
  if (typeof source !== "object" || source === null || Array.isArray(source))
    return checkSource(source) as string | undefined;
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  const tokenizer = checkString("source.tokenizer", pair.tokenizer);
  return pair.var === undefined ? { tokenizer } : { tokenizer, var: checkString("source.var", pair.var) };
}

/** `undefined` and `"digits"` mean the bundled model. */
export function checkSource(source: unknown): ModelSource | undefined {
  if (source === undefined || source === "digits") return undefined;
  if (typeof source === "string") return checkString("source", source);
  if (typeof source !== "object" || source === null || Array.isArray(source)) {
    fail("source", source, "a path or { var, tokenizer }");
  }
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  return { var: checkString("source.var", pair.var), tokenizer: checkString("source.tokenizer", pair.tokenizer) };
}

/** The option, else the environment's NEXTSCALE_DEVICE, else "auto". */
function deviceOf(option: unknown): Pick<ResolvedLoadOptions, "device" | "deviceFrom"> {
  if (option !== undefined) return { device: checkDevice("device", option), deviceFrom: "option" };
  const fromEnvironment = process.env.NEXTSCALE_DEVICE;
  if (fromEnvironment) return { device: checkDevice("NEXTSCALE_DEVICE", fromEnvironment), deviceFrom: "environment" };
  return { device: "auto", deviceFrom: "default" };
}

function checkDevice(name: string, value: unknown): Device {
  if (typeof value === "string" && /^(auto|cpu|cuda(:\d{1,4})?)$/.test(value)) return value as Device;
  fail(name, value, '"auto", "cpu", "cuda" or "cuda:N"');
}

function checkSides(value: unknown): number[] {
  if (!Array.isArray(value) || value.length === 0) fail("sides", value, "a non-empty array of integers");
  const sides = value.map((side, index) => checkInteger(`sides[${index}]`, side, 1, 1024));
  for (let index = 1; index < sides.length; index++) {
    if (sides[index]! <= sides[index - 1]!) fail("sides", `[${sides.join(", ")}]`, "ascending sides");
  }
  return sides;
}
