/**
 * From a file's own layout to two lists of tensors, the transformer's and the tokenizer's, under the reference's names.
 * Training checkpoints are unwrapped, prefixes of wrappers are dropped, buffers that can be computed are left out.
 */

import { InvalidCheckpointError } from "../errors.js";
import { detectFormat, type FileFormat } from "./detect.js";
import type { StoredTensor } from "./dtype.js";
import { kindOf, PickleDict, PickleTuple, type PickleValue, printable } from "./pickle-values.js";
import { readSafetensors } from "./safetensors.js";
import type { ByteSource } from "./source.js";
import { TorchTensor } from "./torch.js";
import { readTorchLegacy, readTorchZip, type TorchFile } from "./torch-file.js";

/** The parts of a model: transformer and tokenizer. */
export type Part = "var" | "vae";

/** What one file holds. Tensor names have no `var.` or `vae.`. */
export interface StateDicts {
  path: string;
  format: FileFormat;
  parts: Record<Part, Map<string, StoredTensor>>;
  /** Buffers that tell something about the shape: `var.lvl_1L`, `vae.quantize.ema_vocab_hit_SV`. */
  buffers: Map<string, StoredTensor>;
  /** Sides of the scales as a trainer wrote them down. */
  trainedSides: number[] | null;
  metadata: Map<string, string>;
}

const ROOTS: Record<string, Part> = {
  word_embed: "var",
  class_emb: "var",
  pos_start: "var",
  pos_1LC: "var",
  lvl_embed: "var",
  lvl_1L: "var",
  attn_bias_for_masking: "var",
  shared_ada_lin: "var",
  blocks: "var",
  head_nm: "var",
  head: "var",
  encoder: "vae",
  decoder: "vae",
  quantize: "vae",
  quant_conv: "vae",
  post_quant_conv: "vae",
};

const BUFFER = /^(lvl_1L|attn_bias_for_masking|blocks\.\d+\.attn\.zero_k_bias|quantize\.ema_vocab_hit_SV)$/;
const TELLING = new Set(["lvl_1L", "quantize.ema_vocab_hit_SV"]);
const WRAPPERS = ["state_dict", "model_state_dict", "model", "module"];

/** Reads everything of a file but its numbers. @param file index that the tensors get */
export async function readStateDicts(source: ByteSource, file: number): Promise<StateDicts> {
  const format = await detectFormat(source);
  const dicts: StateDicts = {
    path: source.path,
    format,
    parts: { var: new Map(), vae: new Map() },
    buffers: new Map(),
    trainedSides: null,
    metadata: new Map(),
  };
  if (format === "safetensors") {
    const { tensors, metadata } = await readSafetensors(source, file);
    dicts.metadata = metadata;
    for (const [name, place] of placeAll(source, tensors)) addTensor(source, dicts, place, name, tensors.get(name)!);
  } else {
    const torch = await (format === "torch-zip" ? readTorchZip(source) : readTorchLegacy(source));
    await collect(source, dicts, torch, file);
  }
  if (dicts.parts.var.size + dicts.parts.vae.size === 0) {
    throw new InvalidCheckpointError(`${source.path}: it holds no tensors`);
  }
  return dicts;
}

async function collect(source: ByteSource, dicts: StateDicts, torch: TorchFile, file: number): Promise<void> {
  const root = unwrap(source, torch.value);
  dicts.trainedSides = sidesOf(root.get("config"));
  const found = new Map<string, TorchTensor>();
  for (const [prefix, dict] of partDicts(root)) {
    for (const [key, value] of dict.entries) {
      if (typeof key !== "string" || !(value instanceof TorchTensor)) continue; // a trainer's counters and notes
      found.set(prefix + key, value);
    }
  }
  if (found.size === 0) throw new InvalidCheckpointError(`${source.path}: ${describeContent(root)}`);
  for (const [name, place] of placeAll(source, found)) {
    if (BUFFER.test(place.name) && !TELLING.has(place.name)) continue; // its numbers do not even have to be there
    addTensor(source, dicts, place, name, await torch.locate(name, found.get(name)!, file));
  }
}

/** The dict that holds the tensors, or the two that do. */
function unwrap(source: ByteSource, value: PickleValue): PickleDict {
  let dict = value;
  for (let level = 0; level < 4; level++) {
    if (!(dict instanceof PickleDict)) {
      throw new InvalidCheckpointError(
        `${source.path}: a dict of tensors was expected, the file holds ${kindOf(dict)}`,
      );
    }
    if (dict.get("var_wo_ddp") instanceof PickleDict || dict.get("vae_local") instanceof PickleDict) return dict;
    const inner: PickleValue | undefined = ["trainer", ...WRAPPERS]
      .map((key) => (dict as PickleDict).get(key))
      .find((candidate) => candidate instanceof PickleDict);
    if (inner === undefined) return dict;
    dict = inner;
  }
  return dict as PickleDict;
}

function partDicts(root: PickleDict): [string, PickleDict][] {
  const parts: [string, PickleDict][] = [];
  for (const [key, prefix] of [
    ["var_wo_ddp", "var."],
    ["vae_local", "vae."],
  ] as const) {
    const dict = root.get(key);
    if (dict instanceof PickleDict) parts.push([prefix, dict]);
  }
  return parts.length > 0 ? parts : [["", root]];
}

interface Place {
  part: Part;
  name: string; // reference name, no prefix
}

/** Part and reference name of every tensor; refuses what belongs to neither part and names that meet. */
function placeAll(source: ByteSource, tensors: ReadonlyMap<string, unknown>): Map<string, Place> {
  const places = new Map<string, Place>();
  const strangers: string[] = [];
  for (const name of tensors.keys()) {
    const place = placeOf(name);
    if (place === null) strangers.push(name);
    else places.set(name, place);
  }
  if (strangers.length === 0) return places;
  const what = places.size === 0 ? "none of its tensors belongs to a VAR or its tokenizer" : "unexpected tensors";
  throw new InvalidCheckpointError(`${source.path}: ${what}: ${listNames(strangers)}`);
}

function placeOf(full: string): Place | null {
  let name = full.replace(/^((module|_orig_mod|model)\.)+/, "").replaceAll("_orig_mod.", "");
  const prefix = /^(var|vae)\./.exec(name)?.[1] as Part | undefined;
  if (prefix !== undefined) name = name.slice(4).replace(/^(module\.)+/, "");
  const root = name.split(".", 1)[0]!;
  const part = Object.hasOwn(ROOTS, root) ? ROOTS[root]! : null;
  return part === null || (prefix !== undefined && prefix !== part) ? null : { part, name };
}

function addTensor(source: ByteSource, dicts: StateDicts, place: Place, fullName: string, tensor: StoredTensor): void {
  const { part, name } = place;
  const target = BUFFER.test(name) ? dicts.buffers : dicts.parts[part];
  const key = BUFFER.test(name) ? `${part}.${name}` : name;
  if (target.has(key)) {
    throw new InvalidCheckpointError(
      `${source.path}: ${printable(fullName)} and another tensor have the same name ${key}`,
    );
  }
  target.set(key, tensor);
}

function sidesOf(config: PickleValue | undefined): number[] | null {
  const sides = config instanceof PickleDict ? config.get("patch_nums") : undefined;
  if (!(sides instanceof PickleTuple) || sides.items.length > 64) return null;
  return sides.items.every((side) => Number.isSafeInteger(side)) ? (sides.items as number[]).slice() : null;
}

function describeContent(root: PickleDict): string {
  const keys = [...root.entries.keys()].map((key) => (typeof key === "string" ? key : kindOf(key)));
  return keys.length === 0 ? "the dict in it is empty" : `no tensors were found in it, only ${listNames(keys)}`;
}

/** The first few names, and how many more there are. */
export function listNames(names: readonly string[], limit = 4): string {
  const shown = names.slice(0, limit).map(printable).join(", ");
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
