/** Options of evaluateModel and measureSensitivity. */

import { checkInteger, checkPath, fail, isUrl } from "./check.js";
import { checkDepth, minDepth } from "./depth.js";
import { integer, listening, listOf, number, signal } from "./kinds.js";
import { classRule } from "./labels.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

/** How far a measurement has come: images scored, over all passes. */
export interface EvaluateProgress {
  done: number;
  total: number;
}

export const SCORING = table({
  limit: row(
    integer(1),
    "only so many images, spread evenly over the set (whose images are in the order of their classes)",
    {
      otherwise: "all",
      flag: "--limit <n>",
    },
  ),
  images: row(
    listOf(integer(0), "a non-empty array of image numbers"),
    "these images, by their numbers in the set, instead",
  ),
  batch: row(integer(1, 4096), "images that are scored at a time; it changes the speed, never the result", {
    default: 64,
    flag: "--batch <n>",
  }),
  classesBy: row(
    classRule(),
    "how the classes of the set find those of the model; auto: by name, else by number, else by place",
    {
      default: "auto",
      flag: "--classes-by <rule>",
    },
  ),
  onProgress: row(listening<[progress: EvaluateProgress]>(), "told how far it has come"),
  signal: row(signal(), "cancels"),
});

export const EVALUATE = table({
  depths: row(
    listOf(integer(1), "a non-empty array of depths"),
    "depths of the scales after the bridge; full depth comes always",
    {
      otherwise: "those that the checkpoint was trained for",
      flag: "--depths <list>",
    },
  ),
  bridge: row(integer(0), "leading scales at full depth", { otherwise: "the checkpoint's", flag: "-b, --bridge <n>" }),
  ...SCORING.rows,
});

export const SENSITIVITY = table({
  depth: row(integer(1), "with --sensitivity: depth of the subnet", {
    otherwise: "half of the blocks",
    flag: "-d, --depth <n>",
  }),
  zones: row(integer(1), "with --sensitivity: into how many zones of consecutive scales the pyramid is cut", {
    otherwise: "3, or as many as there are scales",
    flag: "--zones <n>",
  }),
  lossBudget: row(number(0, 1000), "with --sensitivity: nats per token over full depth that a bridge may cost", {
    otherwise: "nine tenths of what no bridge at all costs",
    flag: "--loss-budget <nats>",
  }),
  ...SCORING.rows,
});

/** Which images are scored, and how. */
export interface ScoringSettings extends OptionsOf<typeof SCORING> {}

export interface EvaluateSettings extends OptionsOf<typeof EVALUATE> {}

export interface SensitivitySettings extends OptionsOf<typeof SENSITIVITY> {}

/** What the checks must know of the model and the set. */
export interface EvaluateContext {
  fullDepth: number;
  numScales: number;
  bridge: number;
  trainedDepths: readonly number[];
  /** Images in the set. */
  length: number;
}

/** `indices`: numbers in the set of the images to score. */
export type ResolvedScoring = Pick<Resolved<typeof SCORING>, "batch" | "classesBy" | "onProgress" | "signal"> & {
  indices: Uint32Array;
};

export function resolveEvaluateSettings(
  raw: unknown,
  context: EvaluateContext,
): ResolvedScoring & { depths: number[]; bridge: number } {
  const { depths: wanted = context.trainedDepths, bridge, ...scoring } = EVALUATE.read(raw);
  const { fullDepth, numScales } = context;
  const depths = wanted.map((depth, index) => checkDepth(`depths[${index}]`, depth, fullDepth));
  return {
    ...resolveScoring(scoring, context.length),
    depths: [...new Set([fullDepth, ...depths])].sort((a, b) => b - a),
    bridge: checkInteger("bridge", bridge ?? context.bridge, 0, numScales),
  };
}

export function resolveSensitivitySettings(
  raw: unknown,
  context: EvaluateContext,
): ResolvedScoring & { depth: number; zones: number; lossBudget: number | undefined } {
  const { depth, zones, lossBudget, ...scoring } = SENSITIVITY.read(raw);
  const { fullDepth, numScales } = context;
  const half = Math.max(minDepth(fullDepth), Math.floor(fullDepth / 2));
  return {
    ...resolveScoring(scoring, context.length),
    depth: checkDepth("depth", depth ?? half, fullDepth),
    zones: checkInteger("zones", zones ?? Math.min(3, numScales), 1, numScales),
    lossBudget,
  };
}

/** A path, or what {@link TokenSet.open} gave. */
export function checkTokensOption(value: unknown): string | object {
  if (typeof value === "string" || isUrl(value)) return checkPath("tokens", value);
  if (typeof value !== "object" || value === null || !("read" in value))
    fail("tokens", value, "a folder or a TokenSet");
  return value;
}

function resolveScoring({ limit, images, ...rest }: Resolved<typeof SCORING>, length: number): ResolvedScoring {
  if (images !== undefined) {
    if (limit !== undefined) fail("images", images, "no limit beside it");
    const indices = images.map((image, index) => checkInteger(`images[${index}]`, image, 0, length - 1));
    return { ...rest, indices: Uint32Array.from(indices) };
  }
  const count = Math.min(length, limit ?? length);
  return { ...rest, indices: Uint32Array.from({ length: count }, (_, index) => Math.floor((index * length) / count)) };
}
