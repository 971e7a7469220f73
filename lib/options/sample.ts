/** Options of sampleModel. What decides the draws is checked by generate, which knows the model. */

import { InvalidOptionError } from "../errors.js";
import { type LabelContext, resolveLabels } from "../labels/index.js";
import { checkInteger, fail } from "./check.js";
import { type DepthOption, depth, ZONES } from "./depth.js";
import { DRAWING } from "./drawing.js";
import { boolean, checkedBy, integer, listening, oneOf, path, seed, signal, text } from "./kinds.js";
import { labelList } from "./labels.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

/** How far a run has come, of its own shard. */
export interface SampleProgress {
  done: number;
  total: number;
  /** How many of them an earlier run had made. */
  resumed: number;
}

export const SHARD = table({
  index: row(integer(0), "0-based", { needed: true }),
  of: row(integer(1, 65_536), "how many runs share the work", { needed: true }),
});

/** One of several runs that share the work. */
export type SampleShard = OptionsOf<typeof SHARD>;

/** As a text `2/4`, the second of four. */
const shard = checkedBy<SampleShard>(
  SHARD.schema,
  (option, value) => {
    const { index, of } = SHARD.read(value, option);
    return { of, index: checkInteger(`${option}.index`, index, 0, of - 1) };
  },
  (option, word) => {
    const match = /^(\d{1,5})\/(\d{1,5})$/.exec(word);
    const [index, of] = [Number(match?.[1]), Number(match?.[2])];
    if (match === null || index < 1 || index > of) fail(option, word, "i/n with i from 1 to n");
    return { index: index - 1, of };
  },
);

const MAX_IMAGES = 2 ** 26;

/** How the images of an `.npz` follow each other. */
export const SAMPLE_ORDERS = ["random", "class"] as const;
export type SampleOrder = (typeof SAMPLE_ORDERS)[number];

export const SAMPLE = table({
  output: row(path(), "a folder for PNG files, or a file that ends in .npz", {
    needed: true,
    flag: "-o, --output <path>",
  }),
  perClass: row(integer(1, MAX_IMAGES), "images of each class", { needed: true, flag: "-n, --per-class <n>" }),
  classes: row(
    labelList(),
    "classes by number or name; in a command, numbers, ranges and names with commas between them",
    {
      otherwise: "all",
      flag: "--classes <list>",
    },
  ),
  seed: row(seed(), "0 .. 2^64-1; an image depends on this, its class and its number in the class alone", {
    default: 0,
    flag: "-s, --seed <n>",
  }),
  ...DRAWING.rows,
  depth: row(
    depth<Exclude<DepthOption, { deadlineMs: number }>>(ZONES),
    "blocks that run after the bridge, or one number per scale; no deadline, because what is drawn must not depend on the clock",
    { otherwise: "all", flag: "-d, --depth <n>" },
  ),
  order: row(
    oneOf(...SAMPLE_ORDERS),
    "how the images of an .npz follow each other: drawn from the seed, or class by class; evaluators that score splits of consecutive images need the first",
    { default: "random", flag: "--order <order>" },
  ),
  shard: row(shard, "this run's share of the images; in a command i/n, the i-th of n equal parts", {
    otherwise: "all of them",
    flag: "--shard <i/n>",
  }),
  batch: row(integer(1, 4096), "images at a time; it changes the speed, never the images", {
    otherwise: "what the KV pool holds, at most 32",
    flag: "--batch <n>",
  }),
  modelId: row(
    text(),
    "what tells this model from others with the same shapes (the command line gives a hash of its files): a run that goes on with other weights is refused",
    { otherwise: "only shapes and tokenizer are compared" },
  ),
  overwrite: row(boolean(), "start anew where images of other settings are; otherwise that is refused", {
    default: false,
    flag: "--overwrite",
  }),
  onProgress: row(listening<[progress: SampleProgress]>(), "told how far it has come"),
  signal: row(signal(), "cancels: what is written stays, and the next call goes on after it"),
});

export interface SampleSettings extends OptionsOf<typeof SAMPLE> {}

/** What is drawn and where it goes; `generate` holds what a generation is asked for, checked when the first one is. */
export type ResolvedSampleSettings = Omit<
  Resolved<typeof SAMPLE, { classes: number[]; seed: bigint; shard: SampleShard; modelId: string }>,
  keyof Drawing
> & { format: "png" | "npz"; generate: Drawing };

type Drawing = Pick<SampleSettings, keyof typeof DRAWING.rows | "depth">;

/** @throws InvalidOptionError */
export function resolveSampleSettings(raw: unknown, context: LabelContext): ResolvedSampleSettings {
  const { depth, ...settings } = SAMPLE.read(raw);
  if (typeof depth === "object" && depth !== null && "deadlineMs" in depth) {
    fail("depth", depth, "a plan without a deadline: what is drawn must not depend on the clock");
  }
  const { output, overwrite, shard = { index: 0, of: 1 } } = settings;
  const classes = checkClasses(settings.classes, context);
  if (overwrite && shard.of > 1) {
    const found = `shard ${shard.index} of ${shard.of}`;
    throw new InvalidOptionError("overwrite", found, "no shard: it would remove the others' images");
  }
  return {
    ...settings,
    format: /\.npz$/i.test(output) ? "npz" : "png",
    perClass: checkInteger("perClass", settings.perClass, 1, Math.floor(MAX_IMAGES / classes.length)),
    classes,
    seed: BigInt(settings.seed),
    generate: { ...DRAWING.of(settings), depth: depth as SampleSettings["depth"] },
    shard,
    modelId: settings.modelId ?? "",
  };
}

/** Ascending and distinct, so that the order in which they were named changes nothing. */
function checkClasses(value: unknown, context: LabelContext): number[] {
  const { numClasses } = context;
  if (value === undefined) return Array.from({ length: numClasses }, (_, index) => index);
  if (!Array.isArray(value)) fail("classes", value, "a list of classes");
  const classes = [...new Set(resolveLabels(value, context, "classes"))].sort((a, b) => a - b);
  if (classes.at(-1) === numClasses) throw new InvalidOptionError("classes", '"unconditional"', "classes of the model");
  return classes;
}
