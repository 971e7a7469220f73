/** Options of tokenizeImages. */

import { InvalidOptionError } from "../errors.js";
import { checkInteger } from "./check.js";
import { boolean, integer, listening, MANY, oneOf, path, seed, signal } from "./kinds.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

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

export const TOKENIZE = table({
  images: row(path(), "a folder with one sub-folder per class", { needed: true }),
  output: row(path(), "the folder to write; made when it is missing", { needed: true, flag: "-o, --output <folder>" }),
  fit: row(
    oneOf("cover", "contain", "fill", "pad"),
    "how a picture of another size becomes one of the tokenizer's; cover: scaled until it covers the square, the rest cropped; contain: scaled until it fits in, the rest black; fill: squeezed; pad: never scaled, black around what is smaller, what is larger is cropped",
    { default: "cover", flag: "--fit <fit>" },
  ),
  resize: row(integer(1, 16_384), "with cover: length of the shorter side before cropping", {
    otherwise: "the tokenizer's side",
    flag: "--resize <pixels>",
  }),
  crop: row(oneOf("centre", "random"), "which part of a picture that is larger stays", {
    default: "centre",
    flag: "--crop <part>",
  }),
  flip: row(boolean(), "every image a second time, mirrored, after all the others", { default: false, flag: "--flip" }),
  seed: row(seed(), "of random crops; the crop of an image depends on this and its path alone", {
    default: 0,
    flag: "-s, --seed <n>",
  }),
  maxPerClass: row(integer(1), "only the first so many files of each class, by name", {
    default: MANY,
    otherwise: "all",
    flag: "--max-per-class <n>",
  }),
  shardSize: row(integer(1, 2 ** 20), "files per shard: what an interruption can cost", {
    default: 1024,
    flag: "--shard-size <n>",
  }),
  batch: row(integer(1, 4096), "images that are encoded at a time; it changes the speed, never the tokens", {
    default: 32,
    flag: "--batch <n>",
  }),
  overwrite: row(boolean(), "start anew in a folder that holds another token set; otherwise that is refused", {
    default: false,
    flag: "--overwrite",
  }),
  onProgress: row(listening<[progress: TokenizeProgress]>(), "told how far it has come"),
  signal: row(signal(), "cancels: finished shards stay, and the next call goes on after them"),
});

/** What every field may be is said at {@link tokenizeImages}. */
export interface TokenizeSettings extends OptionsOf<typeof TOKENIZE> {}

/** How a picture of another size becomes one of the tokenizer's. */
export type Fit = NonNullable<TokenizeSettings["fit"]>;

/** Which part of a picture that is larger stays. */
export type Crop = NonNullable<TokenizeSettings["crop"]>;

export type ResolvedTokenizeSettings = Resolved<typeof TOKENIZE, { resize: number; seed: bigint }>;

/** @param side of the tokenizer's images @throws InvalidOptionError */
export function resolveTokenizeSettings(raw: unknown, side: number): ResolvedTokenizeSettings {
  const settings = TOKENIZE.read(raw);
  const { fit, crop, resize } = settings;
  if (resize !== undefined && fit !== "cover") {
    throw new InvalidOptionError("resize", `fit "${fit}" beside it`, 'fit "cover", the only one that scales and crops');
  }
  if (crop === "random" && fit !== "cover" && fit !== "pad") {
    throw new InvalidOptionError("crop", `"random" with fit "${fit}"`, 'fit "cover" or "pad", which crop');
  }
  return { ...settings, resize: checkInteger("resize", resize ?? side, side, 16_384), seed: BigInt(settings.seed) };
}
