/** Options of evaluateModel and measureSensitivity: the only place that reads the raw objects. */

import { CLASS_RULES, type ClassRule } from "../labels/index.js";
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

/** How far a measurement has come: images scored, over all passes. */
export interface EvaluateProgress {
  done: number;
  total: number;
}

/** Which images are scored, and how. */
export interface ScoringSettings {
  /** Only so many images, spread evenly over the set (whose images are in the order of their classes). Default: all. */
  limit?: number;
  /** These images, by their numbers in the set, instead. */
  images?: number[];
  /** Images that are scored at a time, 1 .. 4096. It changes the speed, never the result. Default 64. */
  batch?: number;
  /** How the classes of the set find those of the model. Default `"auto"`: by name, else by number, else by place. */
  classesBy?: ClassRule;
  onProgress?: (progress: EvaluateProgress) => void;
  signal?: AbortSignal;
}

export interface EvaluateSettings extends ScoringSettings {
  /** Depths of the scales after the bridge. Default: those that the checkpoint was trained for. Full depth is always among them. */
  depths?: number[];
  /** Leading scales at full depth. Default: the checkpoint's. */
  bridge?: number;
}

export interface SensitivitySettings extends ScoringSettings {
  /** Depth of the subnet. Default: half of the model's blocks. */
  depth?: number;
  /** Into how many zones of consecutive scales the pyramid is cut. Default 3 (or as many as there are scales). */
  zones?: number;
  /** Nats per token over full depth that a bridge may cost. Default: nine tenths of what no bridge at all costs. */
  lossBudget?: number;
}

/** What the checks must know of the model and the set. */
export interface EvaluateContext {
  fullDepth: number;
  numScales: number;
  bridge: number;
  trainedDepths: readonly number[];
  /** Images in the set. */
  length: number;
}

export interface ResolvedScoring {
  indices: Uint32Array;
  batch: number;
  classesBy: ClassRule;
  onProgress: (progress: EvaluateProgress) => void;
  signal: AbortSignal | undefined;
}

const SCORING_KEYS = [
  "limit",
  "images",
  "batch",
  "classesBy",
  "onProgress",
  "signal",
] as const satisfies readonly (keyof ScoringSettings)[];

export function resolveEvaluateSettings(
  raw: unknown,
  context: EvaluateContext,
): ResolvedScoring & { depths: number[]; bridge: number } {
  const options = checkObject("options", raw, ["model", "tokens", "depths", "bridge", ...SCORING_KEYS]);
  const { fullDepth, numScales } = context;
  const wanted = options.depths ?? context.trainedDepths;
  if (!Array.isArray(wanted) || wanted.length === 0) fail("depths", wanted, "a non-empty array of depths");
  const depths = wanted.map((depth, index) => checkSubnet(`depths[${index}]`, depth, fullDepth));
  return {
    ...resolveScoring(options, context.length),
    depths: [...new Set([fullDepth, ...depths])].sort((a, b) => b - a),
    bridge: checkInteger("bridge", options.bridge ?? context.bridge, 0, numScales),
  };
}

export function resolveSensitivitySettings(
  raw: unknown,
  context: EvaluateContext,
): ResolvedScoring & { depth: number; zones: number; lossBudget: number | undefined } {
  const options = checkObject("options", raw, ["model", "tokens", "depth", "zones", "lossBudget", ...SCORING_KEYS]);
  const { fullDepth, numScales } = context;
  const half = Math.max(Math.min(2, fullDepth), Math.floor(fullDepth / 2));
  return {
    ...resolveScoring(options, context.length),
    depth: checkSubnet("depth", options.depth ?? half, fullDepth),
    zones: checkInteger("zones", options.zones ?? Math.min(3, numScales), 1, numScales),
    lossBudget: optional(options.lossBudget, (value) => checkNumber("lossBudget", value, 0, 1000)),
  };
}

/** A path, or what {@link TokenSet.open} gave. */
export function checkTokensOption(value: unknown): string | object {
  if (typeof value === "string") return checkString("tokens", value);
  if (typeof value !== "object" || value === null || !("read" in value))
    fail("tokens", value, "a folder or a TokenSet");
  return value;
}

function checkSubnet(option: string, value: unknown, fullDepth: number): number {
  return checkInteger(option, value, Math.min(2, fullDepth), fullDepth);
}

function resolveScoring(options: Record<string, unknown>, length: number): ResolvedScoring {
  return {
    indices: resolveIndices(options, length),
    batch: checkInteger("batch", options.batch ?? 64, 1, 4096),
    classesBy: checkOneOf("classesBy", options.classesBy ?? "auto", CLASS_RULES),
    onProgress: optional(options.onProgress, (value) => checkFunction("onProgress", value)) ?? (() => undefined),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

function resolveIndices({ limit, images }: Record<string, unknown>, length: number): Uint32Array {
  if (images !== undefined) {
    if (limit !== undefined) fail("images", images, "no limit beside it");
    if (!Array.isArray(images) || images.length === 0) fail("images", images, "a non-empty array of image numbers");
    return Uint32Array.from(images, (image, index) => checkInteger(`images[${index}]`, image, 0, length - 1));
  }
  const count =
    limit === undefined ? length : Math.min(length, checkInteger("limit", limit, 1, Number.MAX_SAFE_INTEGER));
  return Uint32Array.from({ length: count }, (_, index) => Math.floor((index * length) / count));
}
