/** Options of opening and converting checkpoints, and where they come from. */

import { types } from "node:util";
import { type TString, Type } from "@sinclair/typebox";
import { InvalidOptionError } from "../errors.js";
import { checkObject, checkPath, fail, isUrl, optional } from "./check.js";
import { RECOMMENDED } from "./drawing.js";
import {
  callback,
  checkedBy,
  checkedLater,
  integer,
  listOf,
  nested,
  number,
  oneOf,
  path,
  signal,
  text,
} from "./kinds.js";
import { type OptionsOf, row, table } from "./table.js";

export const dtype = oneOf("f32", "f16", "bf16");
export const strategy = oneOf("even", "nested");

const sideList = listOf(integer(1, 1024), "a non-empty array of integers");

export const sides = checkedBy<number[]>(
  sideList.schema,
  (option, value) => {
    const list = sideList.check(option, value);
    if (list.some((side, index) => index > 0 && side <= list[index - 1]!))
      fail(option, `[${list.join(", ")}], which do not ascend`, "ascending sides");
    return list;
  },
  sideList.parse,
);

/** What a file cannot always tell. */
export const SHAPE = table({
  weights: row(
    text(),
    "which weights, where a file holds several sets: raw, ema (their average), or the name of a set as inspect lists it",
    { otherwise: "raw", flag: "--weights <which>" },
  ),
  heads: row(integer(1, 1024), "attention heads, for a checkpoint without L2-norm attention", {
    otherwise: "one per 64 channels, as in the reference",
    flag: "--heads <n>",
  }),
  sides: row(sides, "sides of the scales, ascending, such as 1,2,3,4,5,6,8,10,13,16", {
    otherwise: "inferred",
    flag: "--sides <list>",
  }),
  residualMix: row(number(0, 1), "share of the residual convolution", { otherwise: "the checkpoint's, else 0.5" }),
});

export const OPEN = table({ ...SHAPE.rows, signal: row(signal(), "cancels") });

/** A file may hold an empty one. */
const note = checkedBy<string, string, TString>(
  Type.String(),
  (option, value) => (typeof value === "string" ? value : fail(option, value, "a string")),
  text().parse,
);

const metadata = checkedBy<Record<string, string>>(
  Type.Record(Type.String(), Type.String()),
  (option, value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      fail(option, value, "an object of strings");
    for (const [key, word] of Object.entries(value)) note.check(`${option}.${key}`, word);
    return value as Record<string, string>;
  },
  (option, word, before) => {
    const at = word.indexOf("=");
    if (at < 1) fail(option, word, "key=value");
    return { ...(before as Record<string, string>), [word.slice(0, at)]: word.slice(at + 1) };
  },
);

/** What is known about a model beyond its weights; `checkNotes` compares it with the model. */
export const NOTES = table({
  name: row(note, "name of the model", { flag: "--name <text>" }),
  labels: row(listOf(note, "a list of strings", 0), "one name per class, in the order of the class numbers"),
  strategy: row(strategy, "choice of a subnet's blocks that it was trained with", { flag: "--strategy <name>" }),
  bridge: row(integer(0), "leading scales that it was trained to run at full depth", { flag: "--bridge <n>" }),
  depths: row(
    listOf(integer(1), "depths that it was trained for, ascending"),
    "depths that it was trained for, such as 2,4,8",
    {
      flag: "--depths <list>",
    },
  ),
  recommended: row(nested(RECOMMENDED), "settings that suit it"),
  previewMatrix: row(
    checkedBy<Float32Array>(null, (option, value) =>
      types.isFloat32Array(value) ? value : fail(option, value, "a Float32Array"),
    ),
    "linear preview, [3, E+1] row by row",
  ),
  metadata: row(metadata, "anything else worth keeping, such as license=MIT (repeatable)", {
    flag: "--note <key=value>",
  }),
});

export const CONVERT = table({
  source: row(checkedLater<CheckpointSource>(null), "one file, a pair by role, or a list of files", { needed: true }),
  output: row(path(), "the .safetensors file to write; one that exists is replaced when the new one is complete", {
    needed: true,
    flag: "-o, --output <file>",
  }),
  dtype: row(
    dtype,
    "number format of matrices and convolutions; biases, norms, embeddings and the codebook become f32",
    {
      otherwise: "every tensor keeps its own",
      flag: "--dtype <dtype>",
    },
  ),
  ...OPEN.rows,
  ...NOTES.rows,
  onProgress: row(
    callback<(fraction: number, tensor: string) => void>(),
    "share of the bytes written, 0..1, and the tensor at hand; an error that it throws ends the conversion",
  ),
});

/**
 * One file that holds a whole model (a converted one, or a training checkpoint); or the pair by role; or a list of
 * files whose content tells their roles.
 */
export type CheckpointSource =
  | string
  | URL
  | { var?: string | URL; tokenizer?: string | URL }
  | readonly (string | URL)[];

/** Settings that suit a model. */
export interface RecommendedSettings extends OptionsOf<typeof RECOMMENDED> {}

/** What is known about a model beyond its weights. Every field is optional. */
export interface ModelNotes extends OptionsOf<typeof NOTES> {}

export interface OpenOptions extends OptionsOf<typeof OPEN> {}

export interface ConvertOptions extends OptionsOf<typeof CONVERT> {}

/** Distinct files, and which of them holds which part where the caller says. */
export interface ResolvedSource {
  paths: string[];
  roles: { var?: number; vae?: number };
}

/** @throws InvalidOptionError */
export function resolveSource(source: unknown): ResolvedSource {
  if (typeof source === "string" || isUrl(source)) return { paths: [checkPath("source", source)], roles: {} };
  if (Array.isArray(source)) {
    const paths = [...new Set(source.map((path, index) => checkPath(`source[${index}]`, path)))];
    if (paths.length === 1 || paths.length === 2) return { paths, roles: {} };
    throw new InvalidOptionError("source", `a list of ${source.length} files`, "one file or two");
  }
  if (source === undefined || source === null) fail("source", source, "a path or { var, tokenizer }");
  const pair = checkObject("source", source, ["var", "tokenizer"]);
  const transformer = optional(pair.var, (path) => checkPath("source.var", path));
  const tokenizer = optional(pair.tokenizer, (path) => checkPath("source.tokenizer", path));
  if (transformer !== undefined && transformer === tokenizer)
    return { paths: [transformer], roles: { var: 0, vae: 0 } };
  if (transformer !== undefined && tokenizer !== undefined) {
    return { paths: [transformer, tokenizer], roles: { var: 0, vae: 1 } };
  }
  if (transformer !== undefined) return { paths: [transformer], roles: { var: 0 } };
  if (tokenizer !== undefined) return { paths: [tokenizer], roles: { vae: 0 } };
  throw new InvalidOptionError("source", "an object without files", "a path or { var, tokenizer }");
}
