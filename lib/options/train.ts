/** Options of trainSupernet, and of `supernet.json`. */

import { machineThreads } from "../native/machine.js";
import type { TrainEvent } from "../train/events.js";
import type { TokenSource } from "../values/token-source.js";
import { checkPath, fail, isUrl } from "./check.js";
import { dtype, SHAPE, strategy } from "./checkpoint.js";
import {
  above0,
  boolean,
  bytes,
  callback,
  checkedBy,
  integer,
  listOf,
  nested,
  number,
  path,
  share,
  signal,
  text,
} from "./kinds.js";
import { classRule } from "./labels.js";
import { base, learningRate, OPTIMIZER, phases, ratio } from "./recipe.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

const tokens = checkedBy<string | URL | TokenSource, string | TokenSource>(
  text().schema,
  (option, value) => {
    if (typeof value === "string" || isUrl(value)) return checkPath(option, value);
    const source = value as TokenSource | null;
    const ok = typeof source === "object" && source !== null && typeof source.read === "function" && "length" in source;
    if (!ok) fail(option, value, "a folder of token shards, or an open token set");
    return source;
  },
  text().parse,
);

export const EVALUATION = table({
  everySteps: row(integer(1), "steps between two evaluations", { otherwise: "once per epoch" }),
  images: row(integer(1), "held-out images used", { default: 256 }),
});

export const SAVE = table({
  everySteps: row(integer(1), "steps between two checkpoints", { otherwise: "by the clock only" }),
  everyMinutes: row(above0(1e6), "minutes between two checkpoints", { default: 10 }),
  keep: row(integer(1, 1000), "checkpoints kept", { default: 2 }),
});

export const TRAIN = table({
  base: row(base, 'the model to begin with, "digits", or the shape of one to draw at random', {
    needed: true,
    flag: "--base <file>",
  }),
  tokens: row(tokens, "folder of token shards to train on (nextscale tokenize), or an open token set", {
    needed: true,
    flag: "--tokens <folder>",
  }),
  heldout: row(tokens, "tokens that are never trained on, for the evaluations", { flag: "--heldout <folder>" }),
  output: row(path(), "folder of the run: options, metrics, checkpoints, the exported model, the report", {
    needed: true,
  }),
  classesBy: row(
    classRule(),
    "how the classes of the tokens find those of the base; auto: by name, else by number, else by place",
    {
      default: "auto",
      flag: "--classes-by <rule>",
    },
  ),
  depths: row(
    listOf(integer(1, 1024), "a list of depths such as [2, 4, 8]", 0),
    "depths that the supernet shall work at",
    {
      otherwise: "the powers of two below the full depth; none when ratio is 0",
      flag: "--depths <list>",
    },
  ),
  bridge: row(integer(0, 1024), "leading scales that always run at full depth", {
    otherwise: "the base's, else 0",
    flag: "--bridge <n>",
  }),
  strategy: row(strategy, "choice of a subnet's blocks", {
    otherwise: "the base's, else even",
    flag: "--strategy <name>",
  }),
  phases: row(
    phases,
    "{ joint, transition, subnet } in epochs; one that is left out while another is given has length 0",
    {
      default: {},
    },
  ),
  ratio: row(ratio, "share of subnet steps; one number holds for all phases, 0 trains the full network only", {
    default: {},
    flag: "--ratio <p>",
  }),
  epochs: row(above0(), "length of the run; the phases become shares of it", {
    otherwise: "the sum of the phases",
    flag: "--epochs <n>",
  }),
  steps: row(integer(1), "length of the run in optimizer steps, instead of epochs: for comparisons", {
    flag: "--steps <n>",
  }),
  seed: row(integer(0), "of everything that is drawn: order of the images, depths, dropped labels, initial weights", {
    default: 0,
    flag: "-s, --seed <n>",
  }),
  batch: row(integer(1, 1_048_576), "images of one optimizer step", {
    otherwise: "32, or all there are",
    flag: "--batch <n>",
  }),
  microBatch: row(integer(1, 1_048_576), "images of one pass; gradients are accumulated", {
    otherwise: "as many as the memory allows",
    flag: "--micro-batch <n>",
  }),
  checkpointing: row(boolean(), "keep only each block's input and run it again on the way back", {
    otherwise: "when memory asks for it",
  }),
  memory: row(bytes(), "bytes that the training may take, such as 8GiB", {
    otherwise: "80 % of what is free",
    flag: "--memory <size>",
  }),
  threads: row(integer(1, 1024), "worker threads", { otherwise: "all cores", flag: "--threads <n>" }),
  weights: SHAPE.rows.weights,
  heads: SHAPE.rows.heads,
  learningRate: row(learningRate, "the peak of the learning rate, or { peak, schedule, warmup, start, end }", {
    default: {},
    flag: "--learning-rate <rate>",
  }),
  optimizer: row(nested(OPTIMIZER), "AdamW with decoupled decay", { default: {} }),
  labelDropout: row(number(0, 1), 'share of labels replaced by "unconditional", so that guidance works', {
    default: 0.1,
  }),
  labelSmoothing: row(share(), "weight of all other tokens in the loss", { default: 0 }),
  averageDecay: row(
    share(),
    "decay of an exponential average of the weights, which is then what is exported; 0 = none",
    {
      default: 0,
      flag: "--average-decay <decay>",
    },
  ),
  evaluation: row(nested(EVALUATION), "cross entropy of the held-out tokens at every depth", { default: {} }),
  save: row(nested(SAVE), "when checkpoints are written", { default: {} }),
  samples: row(integer(0, 1024), "images of each depth in the report; 0 = no sample sheets", {
    otherwise: "one per class, at most 32",
    flag: "--samples <n>",
  }),
  name: row(text(), "name of the exported model", { otherwise: "the base's", flag: "--name <text>" }),
  dtype: row(dtype, "number format of the exported matrices", { default: "f32", flag: "--dtype <dtype>" }),
  resume: row(boolean(), "continue the run in output, or begin it when nothing has been saved yet", {
    default: false,
    flag: "--resume",
  }),
  nativeBinding: row(path(), "path of a native binary to load instead of the packaged one"),
  onEvent: row(
    callback<(event: TrainEvent) => void>(),
    "told what happens; what it throws ends the run as an abort would",
  ),
  signal: row(signal(), "finishes the step at hand, saves, and rejects with an AbortError"),
});

export interface TrainOptions extends OptionsOf<typeof TRAIN> {}

/** Defaults filled in, except for those that depend on the base, the tokens or the machine. */
export type ResolvedTrainOptions = Resolved<typeof TRAIN, { threads: number }>;

/** @throws InvalidOptionError */
export function resolveTrainOptions(raw: unknown): ResolvedTrainOptions {
  const options = TRAIN.read(raw);
  const { depths, epochs, steps, ratio } = options;
  if (epochs !== undefined && steps !== undefined) fail("steps", steps, "either epochs or steps, not both");
  if (depths?.length === 0 && (ratio.start > 0 || ratio.end > 0))
    fail("depths", depths, "at least one depth (or ratio 0)");
  return {
    ...options,
    depths: depths && [...new Set(depths)].sort((a, b) => a - b),
    threads: options.threads ?? machineThreads().count,
  };
}
