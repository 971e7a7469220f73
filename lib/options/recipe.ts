/** The groups inside a training's options: what it starts from, its curriculum, its optimizer. */

import { Type } from "@sinclair/typebox";
import { checkPath, fail, isUrl } from "./check.js";
import { above0, boolean, checkedBy, integer, number, oneOf, path, share, text } from "./kinds.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

const BASE_FORMS = "a path, { var, tokenizer } or { tokenizer, depth }";

export const PAIR = table({
  var: row(path(), "file with the transformer", { needed: true }),
  tokenizer: row(path(), "file with the tokenizer", { needed: true }),
});

export const INITIAL = table({
  tokenizer: row(path(), "file with the tokenizer", { needed: true }),
  depth: row(integer(1, 1024), "blocks of the full network", { needed: true }),
  width: row(integer(1, 65_536), "channels", { otherwise: "64 per block, as in the reference" }),
  heads: row(integer(1, 1024), "attention heads", { otherwise: "64 channels each, where the width allows it" }),
  mlpWidth: row(integer(1, 262_144), "channels inside the feed-forward layers", { otherwise: "four times the width" }),
  sharedAda: row(boolean(), "one AdaLN for all blocks", { otherwise: "false" }),
  l2Norm: row(boolean(), "L2-normalised attention", { otherwise: "true" }),
});

/** A transformer to draw at random, as the reference initialises it. */
export interface InitialModel extends Omit<OptionsOf<typeof INITIAL>, "tokenizer"> {
  /** File with the tokenizer. */
  tokenizer: string;
}

/**
 * What the training starts from: a whole model (or `"digits"`), a pair, or a tokenizer and the shape of a transformer.
 */
export type TrainBase = string | { var: string; tokenizer: string } | InitialModel;

/** The same as a caller may write it: every path may be a `file:` URL. */
export type TrainBaseSource = string | URL | OptionsOf<typeof PAIR> | OptionsOf<typeof INITIAL>;

/** True for a transformer that is to be drawn at random. */
export function isInitial(base: TrainBase): base is InitialModel {
  return typeof base === "object" && "depth" in base;
}

export const base = checkedBy<TrainBaseSource, TrainBase>(
  Type.Union([text().schema, PAIR.schema, INITIAL.schema]),
  (option, value) => {
    if (typeof value === "string" || isUrl(value)) return checkPath(option, value);
    if (typeof value !== "object" || value === null || Array.isArray(value)) fail(option, value, BASE_FORMS);
    if ("var" in value) return PAIR.read(value, option);
    if (!("depth" in value)) fail(`${option}.depth`, undefined, `the number of blocks (base is ${BASE_FORMS})`);
    const given = Object.entries(INITIAL.read(value, option)).filter(([, field]) => field !== undefined);
    return Object.fromEntries(given) as unknown as InitialModel;
  },
  text().parse,
);

export const PHASES = table({
  joint: row(number(0, 1e6), "mostly the full network: the share of subnet steps stays at ratio.start", {
    otherwise: "5",
  }),
  transition: row(number(0, 1e6), "the share rises linearly", { otherwise: "15" }),
  subnet: row(number(0, 1e6), "the share stays at ratio.end", { otherwise: "10" }),
});

/**
 * Lengths of the three phases, in epochs (or any other unit: only their shares count when the number of steps is
 * given).
 */
export interface Phases extends Required<OptionsOf<typeof PHASES>> {}

/** One that is given alone stands for all. */
export const phases = checkedBy<OptionsOf<typeof PHASES>, Phases>(PHASES.schema, (option, value) => {
  const given = PHASES.read(value, option);
  const alone = Object.values(given).some((length) => length !== undefined);
  const lengths = { ...(alone ? { joint: 0, transition: 0, subnet: 0 } : { joint: 5, transition: 15, subnet: 10 }) };
  for (const name of ["joint", "transition", "subnet"] as const) lengths[name] = given[name] ?? lengths[name];
  if (lengths.joint + lengths.transition + lengths.subnet === 0)
    fail(option, "three phases of length 0", "at least one that is longer than 0");
  return lengths;
});

export const RATIO = table({
  start: row(number(0, 1), "share in the joint phase", { default: 0.2 }),
  end: row(number(0, 1), "share in the subnet phase", { default: 1 }),
});

/** Share of the steps that train a subnet. */
export type Ratio = Resolved<typeof RATIO>;

/** As a text `0.1`, or `0.2:1`. */
export const ratio = checkedBy<number | OptionsOf<typeof RATIO>, Ratio>(
  Type.Union([number(0, 1).schema, RATIO.schema]),
  (option, value) => {
    if (typeof value !== "number" && typeof value !== "object")
      fail(option, value, "a number in 0..1 or { start, end }");
    if (typeof value === "object") return RATIO.read(value, option);
    const both = number(0, 1).check(option, value);
    return { start: both, end: both };
  },
  (option, word) => {
    const [start, end, ...rest] = word.split(":").map(Number);
    if (rest.length > 0) fail(option, word, "a share such as 0.1, or 0.2:1");
    return end === undefined ? start : { start, end };
  },
);

export const LEARNING_RATE = table({
  peak: row(above0(1000), "the largest rate", { otherwise: "1e-4 · batch / 256" }),
  schedule: row(oneOf("cosine", "linear", "constant"), "how it falls from the peak", { default: "linear" }),
  warmup: row(number(0, 1), "share of all steps in which the rate rises", { default: 0.02 }),
  start: row(number(0, 1), "rate of the first step, as a share of the peak", { default: 0.005 }),
  end: row(number(0, 1), "rate of the last step, as a share of the peak; the constant schedule has none", {
    default: 0.1,
  }),
});

export type LearningRate = Resolved<typeof LEARNING_RATE, { peak: number }>;

/** A number is the peak. */
export const learningRate = checkedBy<number | OptionsOf<typeof LEARNING_RATE>, Resolved<typeof LEARNING_RATE>>(
  Type.Union([above0(1000).schema, LEARNING_RATE.schema]),
  (option, value) => {
    if (typeof value === "number") return LEARNING_RATE.read({ peak: above0(1000).check(option, value) }, option);
    if (typeof value !== "object") fail(option, value, "a number or { peak, ... }");
    return LEARNING_RATE.read(value, option);
  },
  number(0, 1).parse,
);

export const OPTIMIZER = table({
  beta1: row(share(), "decay of the mean of the gradients", { default: 0.9 }),
  beta2: row(share(), "decay of the mean of their squares", { default: 0.95 }),
  epsilon: row(above0(1), "added to the root of the latter", { default: 1e-8 }),
  weightDecay: row(number(0, 1000), "decoupled", { default: 0.05 }),
  decayAll: row(boolean(), "decay biases, one-dimensional parameters and embeddings too", { default: false }),
  clipNorm: row(number(0, 1e6), "limit of the whole gradient's norm; 0 = off", {
    default: 2,
    flag: "--clip-norm <norm>",
  }),
});

export interface OptimizerOptions extends OptionsOf<typeof OPTIMIZER> {}
