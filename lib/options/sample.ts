/** Options of sampleModel: the only place that reads the raw object. What generate shares is checked there. */

import { InvalidOptionError } from "../errors.js";
import { type Label, resolveLabels } from "../labels/index.js";
import type { GenerateOptions } from "../model/types.js";
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkObject,
  checkSeed,
  checkSignal,
  checkString,
  fail,
  optional,
} from "./check.js";

/** How far a run has come, of its own shard. */
export interface SampleProgress {
  done: number;
  total: number;
  /** How many of them an earlier run had made. */
  resumed: number;
}

/** One of several runs that share the work. */
export interface SampleShard {
  /** 0-based. */
  index: number;
  of: number;
}

export interface SampleSettings extends Pick<GenerateOptions, "guidance" | "topK" | "topP"> {
  /** A folder for PNG files, or a file that ends in `.npz`. */
  output: string;
  /** Images of each class. */
  perClass: number;
  /** Default: every class of the model. */
  classes?: Label[];
  /** 0 .. 2^64-1. Default 0. An image depends on this, its class and its number in the class alone. */
  seed?: number | bigint;
  /** As in generate, but for a deadline: what is drawn must not depend on the clock. */
  depth?: Exclude<GenerateOptions["depth"], { deadlineMs: number }>;
  /** This run's share of the images. Default: all of them. */
  shard?: SampleShard;
  /** Images at a time. It changes the speed, never the images. Default: what the KV pool holds, at most 32. */
  batch?: number;
  /**
   * What tells this model from others with the same shapes (the command line gives a hash of its files): a run that goes on
   * with other weights is refused. Default: only shapes and tokenizer are compared.
   */
  modelId?: string;
  /** Start anew where images of other settings are. Default false: that is refused. */
  overwrite?: boolean;
  onProgress?: (progress: SampleProgress) => void;
  /** Cancels: what is written stays, and the next call goes on after it. */
  signal?: AbortSignal;
}

/** What the checks must know of the model. */
export interface SampleContext {
  numClasses: number;
  classNames: readonly string[];
}

export interface ResolvedSampleSettings {
  output: string;
  format: "png" | "npz";
  perClass: number;
  classes: number[];
  seed: bigint;
  generate: Pick<GenerateOptions, "guidance" | "topK" | "topP" | "depth">;
  shard: SampleShard;
  batch: number | undefined;
  modelId: string;
  overwrite: boolean;
  onProgress: (progress: SampleProgress) => void;
  signal: AbortSignal | undefined;
}

const KEYS = [
  "output",
  "perClass",
  "classes",
  "seed",
  "guidance",
  "topK",
  "topP",
  "depth",
  "shard",
  "batch",
  "modelId",
  "overwrite",
  "onProgress",
  "signal",
] as const satisfies readonly (keyof SampleSettings)[];

const MAX_IMAGES = 2 ** 26;

/** @throws InvalidOptionError */
export function resolveSampleSettings(raw: unknown, context: SampleContext): ResolvedSampleSettings {
  const options = checkObject("options", raw, [...KEYS, "model"]);
  const output = checkString("output", options.output);
  const { guidance, topK, topP, depth } = options as unknown as SampleSettings;
  if (typeof depth === "object" && depth !== null && "deadlineMs" in depth) {
    fail("depth", depth, "a plan without a deadline: what is drawn must not depend on the clock");
  }
  const classes = checkClasses(options.classes, context);
  const shard = checkShard(options.shard);
  const overwrite = checkBoolean("overwrite", options.overwrite ?? false);
  if (overwrite && shard.of > 1) {
    throw new InvalidOptionError(
      "overwrite",
      `shard ${shard.index} of ${shard.of}`,
      "no shard: it would remove the others' images",
    );
  }
  return {
    output,
    format: /\.npz$/i.test(output) ? "npz" : "png",
    perClass: checkInteger("perClass", options.perClass, 1, Math.floor(MAX_IMAGES / classes.length)),
    classes,
    seed: BigInt(checkSeed("seed", options.seed ?? 0)),
    generate: {
      ...(guidance !== undefined && { guidance }),
      ...(topK !== undefined && { topK }),
      ...(topP !== undefined && { topP }),
      ...(depth !== undefined && { depth }),
    },
    shard,
    batch: optional(options.batch, (value) => checkInteger("batch", value, 1, 4096)),
    modelId: optional(options.modelId, (value) => checkString("modelId", value)) ?? "",
    overwrite,
    onProgress: optional(options.onProgress, (value) => checkFunction("onProgress", value)) ?? (() => undefined),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

/** Ascending and distinct, so that the order in which they were named changes nothing. */
function checkClasses(value: unknown, context: SampleContext): number[] {
  const { numClasses } = context;
  if (value === undefined) return Array.from({ length: numClasses }, (_, index) => index);
  if (!Array.isArray(value)) fail("classes", value, "a list of classes");
  const classes = [...new Set(resolveLabels(value, context))].sort((a, b) => a - b);
  if (classes.at(-1) === numClasses) throw new InvalidOptionError("classes", '"unconditional"', "classes of the model");
  return classes;
}

function checkShard(value: unknown): SampleShard {
  if (value === undefined) return { index: 0, of: 1 };
  const shard = checkObject("shard", value, ["index", "of"]);
  const of = checkInteger("shard.of", shard.of, 1, 65_536);
  return { of, index: checkInteger("shard.index", shard.index, 0, of - 1) };
}
