/** Options of model.generate and model.score. */

import { randomInt } from "node:crypto";
import { type Conditions, type LabelContext, resolveConditions } from "../labels/index.js";
import type { TokenMaps } from "../values/tokens.js";
import { checkInteger, fail } from "./check.js";
import type { RecommendedSettings } from "./checkpoint.js";
import { DEADLINE, type DepthContext, type DepthOption, type DepthPlan, depth, resolveDepth, ZONES } from "./depth.js";
import { DRAWING, USUAL } from "./drawing.js";
import { boolean, checkedLater, integer, oneOf, seed, signal } from "./kinds.js";
import { labels } from "./labels.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

/** What each scale event shows: nothing, a linear map of the feature map, or the real decoder (slow on a CPU). */
export type Preview = "none" | "linear" | "decode";

export const GENERATE = table({
  labels: row(labels(), "one image per label; a label may be a mix of classes with weights, { 3: 0.5, 8: 0.5 }", {
    otherwise: "unconditional",
  }),
  seed: row(seed(), "0 .. 2^64-1; same seed, options and model: the same images", {
    otherwise: "drawn, and reported as generation.seed",
    flag: "-s, --seed <n>",
  }),
  ...DRAWING.rows,
  depth: row(
    depth<DepthOption>(ZONES, DEADLINE),
    "blocks that run after the bridge, or one number per scale; or a plan by zones or by a deadline",
    {
      otherwise: "the model's, which is full depth",
      flag: "-d, --depth <n>",
    },
  ),
  keepDroppedCache: row(
    boolean(),
    "keep the cache of blocks that a lower depth drops, so that a later raise sees the full context",
    {
      default: false,
    },
  ),
  wait: row(boolean(), "when the KV pool is full: wait in order of arrival, or fail at once", { default: true }),
  preview: row(oneOf("none", "linear", "decode"), "what each scale event shows", { default: "none" }),
  firstImage: row(
    integer(0),
    "number of the first image among those of the seed: with 8, a second call goes on where 8 images ended",
    {
      default: 0,
    },
  ),
  signal: row(
    signal(),
    "cancels the generation: everything that waits for it rejects with an AbortError whose cause is the signal's reason",
  ),
});

export const SCORE = table({
  tokens: row(checkedLater<TokenMaps | Int32Array>(null), "[images, numTokens], or what encode returned", {
    needed: true,
  }),
  labels: row(labels(), "one label per image", { needed: true }),
  depth: row(depth<DepthOption>(ZONES), "as in generate, but for a deadline, which cannot be scored", {
    otherwise: "the model's",
  }),
  signal: row(signal(), "cancels the scoring"),
});

/** Options of {@link Model.generate}. */
export interface GenerateOptions extends OptionsOf<typeof GENERATE> {}

/** Token maps and labels to score; see {@link Model.score}. */
export interface ScoreOptions extends OptionsOf<typeof SCORE> {}

/** What the checks must know of the model. */
export interface GenerateContext extends DepthContext, LabelContext {
  codebookSize: number;
  /** Settings that the checkpoint recommends. */
  recommended: RecommendedSettings;
  /** The model's default plan, used when the caller gives none. */
  defaultDepth: DepthPlan;
}

export type ResolvedGenerateOptions = Omit<Resolved<typeof GENERATE, Planned>, "depth" | "labels">;

interface Planned extends Required<Pick<GenerateOptions, "seed" | "topK" | "topP">> {
  conditions: Conditions;
  guidance: Float32Array; // t per scale
  plan: DepthPlan;
}

export function resolveGenerateOptions(raw: unknown, context: GenerateContext): ResolvedGenerateOptions {
  const options = GENERATE.read(raw);
  const { recommended, codebookSize: V } = context;
  return {
    // What the table does not have stands before the spread: behind it, V8 needs twenty times as long for the whole
    // object.
    conditions: resolveConditions(options.labels ?? "unconditional", context),
    plan: planOf(options.depth, context),
    ...options,
    seed: options.seed ?? randomInt(2 ** 32),
    guidance: guidancePerScale(options.guidance ?? recommended.guidance ?? USUAL.guidance, context.numScales),
    topK: checkInteger("topK", options.topK ?? Math.min(recommended.topK ?? USUAL.topK, V), 0, V),
    topP: options.topP ?? recommended.topP ?? USUAL.topP,
  };
}

/** `tokens` are checked by lib/values/tokens.ts, which knows their layout. */
export type ResolvedScoreOptions = Omit<
  Resolved<typeof SCORE, { conditions: Conditions; plan: DepthPlan }>,
  "depth" | "labels"
>;

export function resolveScoreOptions(raw: unknown, context: GenerateContext): ResolvedScoreOptions {
  const { depth, labels: wanted, ...options } = SCORE.read(raw);
  const plan = planOf(depth, context);
  if (plan.deadlineMs > 0) fail("depth", depth, "a plan without a deadline: a score must not depend on the clock");
  return { ...options, plan, conditions: resolveConditions(wanted, context) };
}

function planOf(depth: unknown, context: GenerateContext): DepthPlan {
  return depth === undefined ? context.defaultDepth : resolveDepth(depth, context);
}

/** Guidance per scale: `t = guidance * k / (K-1)` for a number, the list itself otherwise. */
function guidancePerScale(guidance: number | number[], numScales: number): Float32Array {
  if (typeof guidance === "number") {
    // The core multiplies in float32; the reference computes t in double precision first, and so does this line.
    return Float32Array.from({ length: numScales }, (_, k) =>
      numScales === 1 ? guidance : guidance * (k / (numScales - 1)),
    );
  }
  if (guidance.length !== numScales)
    fail("guidance", guidance, `a number or one number per scale (${numScales} of them)`);
  return Float32Array.from(guidance);
}
