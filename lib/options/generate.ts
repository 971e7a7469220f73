/** Options of model.generate and model.score: the only place that reads the raw objects. */

import { randomInt } from "node:crypto";
import { resolveLabels } from "../labels/index.js";
import type { GenerateOptions, Preview, ScoreOptions } from "../model/types.js";
import {
  checkBoolean,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkSeed,
  checkSignal,
  fail,
  optional,
} from "./check.js";
import { type DepthContext, type DepthPlan, resolveDepth } from "./depth.js";

const KEYS = [
  "labels",
  "seed",
  "guidance",
  "topK",
  "topP",
  "depth",
  "keepDroppedCache",
  "wait",
  "preview",
  "firstImage",
  "signal",
] as const satisfies readonly (keyof GenerateOptions)[];

/** What the checks must know of the model. */
export interface GenerateContext extends DepthContext {
  numClasses: number;
  codebookSize: number;
  /** Names by class number; empty when the checkpoint has none. */
  classNames: readonly string[];
  /** Settings that the checkpoint recommends. */
  recommended: { guidance?: number; topK?: number; topP?: number };
  /** The model's default plan, used when the caller gives none. */
  defaultDepth: DepthPlan;
}

export interface ResolvedGenerateOptions {
  labels: Int32Array;
  seed: number | bigint;
  guidance: Float32Array; // t per scale
  topK: number;
  topP: number;
  plan: DepthPlan;
  keepDroppedCache: boolean;
  wait: boolean;
  preview: Preview;
  firstImage: number;
  signal: AbortSignal | undefined;
}

export function resolveGenerateOptions(raw: unknown, context: GenerateContext): ResolvedGenerateOptions {
  const options = checkObject("options", raw, KEYS);
  const { recommended, codebookSize: V } = context;
  return {
    labels: resolveLabels(options.labels ?? "unconditional", context),
    seed: options.seed === undefined ? randomInt(2 ** 32) : checkSeed("seed", options.seed),
    guidance: resolveGuidance(options.guidance ?? recommended.guidance ?? 1.5, context.numScales),
    topK: checkInteger("topK", options.topK ?? Math.min(recommended.topK ?? 900, V), 0, V),
    topP: checkNumber("topP", options.topP ?? recommended.topP ?? 0.96, 0, 1),
    plan: options.depth === undefined ? context.defaultDepth : resolveDepth(options.depth, context),
    keepDroppedCache: checkBoolean("keepDroppedCache", options.keepDroppedCache ?? false),
    wait: checkBoolean("wait", options.wait ?? true),
    preview: checkOneOf("preview", options.preview ?? "none", ["none", "linear", "decode"]),
    firstImage: checkInteger("firstImage", options.firstImage ?? 0, 0, Number.MAX_SAFE_INTEGER),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

export interface ResolvedScoreOptions {
  tokens: unknown; // checked by lib/values/tokens.ts, which knows their layout
  labels: Int32Array;
  plan: DepthPlan;
  signal: AbortSignal | undefined;
}

export function resolveScoreOptions(raw: unknown, context: GenerateContext): ResolvedScoreOptions {
  const keys = ["tokens", "labels", "depth", "signal"] as const satisfies readonly (keyof ScoreOptions)[];
  if (raw === undefined) fail("options", raw, "{ tokens, labels }");
  const options = checkObject("options", raw, keys);
  const plan = options.depth === undefined ? context.defaultDepth : resolveDepth(options.depth, context);
  if (plan.deadlineMs > 0)
    fail("depth", options.depth, "a plan without a deadline: a score must not depend on the clock");
  return {
    tokens: options.tokens,
    labels: resolveLabels(options.labels, context),
    plan,
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

/** Guidance per scale: `t = guidance * k / (K-1)` for a number, the list itself otherwise. */
export function resolveGuidance(value: unknown, numScales: number): Float32Array {
  if (Array.isArray(value)) {
    if (value.length !== numScales) fail("guidance", value, `a number or one number per scale (${numScales} of them)`);
    return Float32Array.from(value, (t, index) => checkNumber(`guidance[${index}]`, t, 0, 1000));
  }
  const last = checkNumber("guidance", value, 0, 1000);
  // The core multiplies in float32; the reference computes t in double precision first, and so does this line.
  return Float32Array.from({ length: numScales }, (_, k) => (numScales === 1 ? last : last * (k / (numScales - 1))));
}
