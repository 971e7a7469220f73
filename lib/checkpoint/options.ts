/** Options and sources of this room: type, range, names. The only place here that reads raw objects. */

import { InvalidOptionError } from "../errors.js";
import type { DType } from "../native/contract.js";
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
} from "../options/check.js";
import type { ModelNotes } from "./metadata.js";
import type { Part } from "./state-dict.js";

/**
 * One file that holds a whole model (a converted one, or a training checkpoint); or the pair by role; or a list of files
 * whose content tells their roles.
 */
export type CheckpointSource = string | { var?: string; tokenizer?: string } | readonly string[];

export interface OpenOptions {
  /** Attention heads; for transformers without L2-norm attention. */
  heads?: number | undefined;
  /** Sides of the scales, ascending; when the file cannot tell. */
  sides?: readonly number[] | undefined;
  /** The tokenizer's `quant_resi`, 0..1. Default: the file's, else 0.5. */
  residualMix?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface ConvertOptions extends OpenOptions, ModelNotes {
  source: CheckpointSource;
  /** The file to write; one that exists is replaced, when the new one is complete. */
  output: string;
  /**
   * Format of the matrices and convolutions; everything else (biases, norms, embeddings, codebook, residual convolutions)
   * then becomes f32. Default: every tensor keeps its format, byte for byte.
   */
  dtype?: DType | undefined;
  /** Share of the bytes written, 0..1, and the tensor at hand. An error that it throws ends the conversion. */
  onProgress?: ((fraction: number, tensor: string) => void) | undefined;
}

const OPEN_KEYS = ["heads", "sides", "residualMix", "signal"] as const satisfies readonly (keyof OpenOptions)[];
/** Keys of {@link ModelNotes}; their values are checked against the model (`checkNotes`). */
export const NOTE_KEYS = [
  "name",
  "labels",
  "strategy",
  "bridge",
  "depths",
  "recommended",
  "previewMatrix",
  "metadata",
] as const satisfies readonly (keyof ModelNotes)[];
const CONVERT_KEYS = [...OPEN_KEYS, ...NOTE_KEYS, "source", "output", "dtype", "onProgress"];

/** @throws InvalidOptionError */
export function resolveOpenOptions(raw: unknown): OpenOptions {
  return checkOpen(checkObject("options", raw, OPEN_KEYS));
}

/** The conversion's own options and those of opening its source. @throws InvalidOptionError */
export function resolveConvertOptions(raw: unknown): { options: ConvertOptions; open: OpenOptions } {
  const options = checkObject("options", raw, CONVERT_KEYS);
  checkString("output", options.output);
  optional(options.dtype, (value) => checkOneOf("dtype", value, ["f32", "f16", "bf16"]));
  optional(options.onProgress, (value) => checkFunction("onProgress", value));
  return { options: options as unknown as ConvertOptions, open: checkOpen(options) };
}

function checkOpen(options: Record<string, unknown>): OpenOptions {
  return {
    heads: optional(options.heads, (value) => checkInteger("heads", value, 1, 1024)),
    sides: optional(options.sides, checkSides),
    residualMix: optional(options.residualMix, (value) => checkNumber("residualMix", value, 0, 1)),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

function checkSides(value: unknown): number[] {
  if (!Array.isArray(value) || value.length === 0) fail("sides", value, "a non-empty array of integers");
  return value.map((side, index) => checkInteger(`sides[${index}]`, side, 1, 1024));
}

/** Distinct files, and which of them holds which part where the caller says. */
export interface ResolvedSource {
  paths: string[];
  roles: Partial<Record<Part, number>>;
}

/** @throws InvalidOptionError */
export function resolveSource(source: unknown): ResolvedSource {
  if (typeof source === "string") return { paths: [checkString("source", source)], roles: {} };
  if (Array.isArray(source)) {
    const paths = [...new Set(source.map((path, index) => checkString(`source[${index}]`, path)))];
    if (paths.length === 1 || paths.length === 2) return { paths, roles: {} };
    throw new InvalidOptionError("source", `a list of ${source.length} files`, "one file or two");
  }
  if (source === undefined || source === null) fail("source", source, "a path or { var, tokenizer }");
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  const transformer = optional(pair.var, (path) => checkString("source.var", path));
  const tokenizer = optional(pair.tokenizer, (path) => checkString("source.tokenizer", path));
  if (transformer !== undefined && transformer === tokenizer)
    return { paths: [transformer], roles: { var: 0, vae: 0 } };
  if (transformer !== undefined && tokenizer !== undefined) {
    return { paths: [transformer, tokenizer], roles: { var: 0, vae: 1 } };
  }
  if (transformer !== undefined) return { paths: [transformer], roles: { var: 0 } };
  if (tokenizer !== undefined) return { paths: [tokenizer], roles: { vae: 0 } };
  throw new InvalidOptionError("source", "an object without files", "a path or { var, tokenizer }");
}
