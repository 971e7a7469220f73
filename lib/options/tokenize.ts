/** Options of tokenizeImages: the only place that reads the raw object. */

import { InvalidOptionError } from "../errors.js";
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkObject,
  checkOneOf,
  checkSeed,
  checkSignal,
  checkString,
  fail,
  optional,
} from "./check.js";

/** How a picture of another size becomes one of the tokenizer's. */
export type Fit = "cover" | "contain" | "fill" | "pad";

/** Which part of a picture that is larger stays. */
export type Crop = "centre" | "random";

/** How far a tokenization has come. */
export interface TokenizeProgress {
  /** Files done (each counts twice with `flip`), read or skipped, of `total`. */
  done: number;
  total: number;
  /** How many of them an earlier run had finished. */
  resumed: number;
  /** Files that could not be read. */
  skipped: number;
}

/** What every field may be is said at {@link tokenizeImages}. */
export interface TokenizeSettings {
  /** A folder with one sub-folder per class. */
  images: string;
  /** The folder to write. */
  output: string;
  /**
   * Default `"cover"`: scaled until it covers the square, the rest cropped. `"contain"`: scaled until it fits in, the rest black.
   * `"fill"`: squeezed. `"pad"`: never scaled: black around what is smaller, what is larger is cropped.
   */
  fit?: Fit;
  /** With `"cover"`: length of the shorter side before cropping, from the tokenizer's side upwards. Default: that side. */
  resize?: number;
  /** Default `"centre"`. */
  crop?: Crop;
  /** Every image a second time, mirrored, after all the others. Default false. */
  flip?: boolean;
  /** Of random crops; the crop of an image depends on this and its path alone. Default 0. */
  seed?: number | bigint;
  /** Only the first so many files of each class, by name. */
  maxPerClass?: number;
  /** Files per shard, 1 .. 2^20: what an interruption can cost. Default 1024. */
  shardSize?: number;
  /** Images that are encoded at a time, 1 .. 4096. It changes the speed, never the tokens. Default 32. */
  batch?: number;
  /** Start anew in a folder that holds another token set. Default false: that is refused. */
  overwrite?: boolean;
  onProgress?: (progress: TokenizeProgress) => void;
  /** Cancels: finished shards stay, and the next call goes on after them. */
  signal?: AbortSignal;
}

export interface ResolvedTokenizeSettings {
  images: string;
  output: string;
  fit: Fit;
  resize: number;
  crop: Crop;
  flip: boolean;
  seed: bigint;
  maxPerClass: number;
  shardSize: number;
  batch: number;
  overwrite: boolean;
  onProgress: (progress: TokenizeProgress) => void;
  signal: AbortSignal | undefined;
}

const KEYS = [
  "images",
  "output",
  "fit",
  "resize",
  "crop",
  "flip",
  "seed",
  "maxPerClass",
  "shardSize",
  "batch",
  "overwrite",
  "onProgress",
  "signal",
] as const satisfies readonly (keyof TokenizeSettings)[];

/** @param side of the tokenizer's images @throws InvalidOptionError */
export function resolveTokenizeSettings(raw: unknown, side: number): ResolvedTokenizeSettings {
  if (raw === undefined) fail("options", raw, "{ model, images, output }");
  const options = checkObject("options", raw, [...KEYS, "model"]);
  const fit = checkOneOf("fit", options.fit ?? "cover", ["cover", "contain", "fill", "pad"]);
  const crop = checkOneOf("crop", options.crop ?? "centre", ["centre", "random"]);
  if (options.resize !== undefined && fit !== "cover") {
    throw new InvalidOptionError("resize", `fit "${fit}" beside it`, 'fit "cover", the only one that scales and crops');
  }
  if (crop === "random" && fit !== "cover" && fit !== "pad") {
    throw new InvalidOptionError("crop", `"random" with fit "${fit}"`, 'fit "cover" or "pad", which crop');
  }
  return {
    images: checkString("images", options.images),
    output: checkString("output", options.output),
    fit,
    resize: checkInteger("resize", options.resize ?? side, side, 16_384),
    crop,
    flip: checkBoolean("flip", options.flip ?? false),
    seed: BigInt(checkSeed("seed", options.seed ?? 0)),
    maxPerClass: checkInteger(
      "maxPerClass",
      options.maxPerClass ?? Number.MAX_SAFE_INTEGER,
      1,
      Number.MAX_SAFE_INTEGER,
    ),
    shardSize: checkInteger("shardSize", options.shardSize ?? 1024, 1, 2 ** 20),
    batch: checkInteger("batch", options.batch ?? 32, 1, 4096),
    overwrite: checkBoolean("overwrite", options.overwrite ?? false),
    onProgress: optional(options.onProgress, (value) => checkFunction("onProgress", value)) ?? (() => undefined),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}
