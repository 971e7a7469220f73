/**
 * From a file's own layout to two lists of tensors, the transformer's and the tokenizer's, under the reference's names.
 * Training checkpoints are unwrapped, prefixes of wrappers are dropped, buffers that can be computed are left out.
 */

import { InvalidCheckpointError } from "../errors.js";
import {
  type Candidate,
  type Contents,
  choose,
  findCandidates,
  type NamedTensor,
  type Part,
  strangersOf,
  type WeightsKind,
} from "./candidates.js";
import { detectFormat, type FileFormat } from "./detect.js";
import { numElements, type StoredTensor } from "./dtype.js";
import { recogniseStranger } from "./families.js";
import { kindOf, PickleDict, PickleList, PickleTuple, type PickleValue, printable } from "./pickle-values.js";
import { readSafetensors } from "./safetensors.js";
import type { ByteSource } from "./source.js";
import { TorchTensor } from "./torch.js";
import { readTorchLegacy, readTorchZip } from "./torch-file.js";

export type { Part } from "./candidates.js";

/** A set of weights that a file holds, and whether it is the one that was taken. */
export interface WeightsSet {
  part: "transformer" | "tokenizer";
  /** Its place in the file (`trainer.var_ema`); empty at the top of the file. */
  name: string;
  kind: WeightsKind;
  /** How many tensors. */
  tensors: number;
  taken: boolean;
}

/** What one file holds. Tensor names have no `var.` or `vae.`. */
export interface StateDicts {
  path: string;
  format: FileFormat;
  parts: Record<Part, Map<string, StoredTensor>>;
  /** Buffers that tell something about the shape: `var.lvl_1L`, `vae.quantize.ema_vocab_hit_SV`. */
  buffers: Map<string, StoredTensor>;
  /** Every set of weights in the file. */
  sets: WeightsSet[];
  /** Sides of the scales as a trainer wrote them down. */
  trainedSides: number[] | null;
  metadata: Map<string, string>;
  warnings: string[];
}

const BUFFER = /^(lvl_1L|attn_bias_for_masking|blocks\.\d+\.attn\.zero_k_bias|quantize\.ema_vocab_hit_SV)$/;
const TELLING = new Set(["lvl_1L", "quantize.ema_vocab_hit_SV"]);

/** Which weights of a file are wanted. */
export interface Wanted {
  /** `"raw"`, `"ema"`, or the name of a set. */
  weights?: string | undefined;
  /** Parts that will be used; the others are only listed. */
  parts?: readonly Part[];
}

/** A tensor whose place in its file has not been looked up. */
interface Unlocated {
  shape: number[];
  locate(): Promise<StoredTensor>;
}

/** The tensors of one file. */
interface FileContents {
  format: FileFormat;
  named: NamedTensor<Unlocated>[];
  metadata: Map<string, string>;
  sides: number[] | null;
}

/** Reads everything of a file but its numbers. @param file index that the tensors get */
export async function readStateDicts(source: ByteSource, file: number, wanted: Wanted = {}): Promise<StateDicts> {
  return collect(source.path, await readContents(source, file), wanted);
}

/**
 * The same for a set of shards. @param first index that the tensors of the first one get
 *
 * @throws InvalidCheckpointError also when a shard does not hold what the index says
 */
export async function readShards(
  path: string,
  shards: readonly ByteSource[],
  first: number,
  shardOf: ReadonlyMap<string, string>,
  wanted: Wanted = {},
): Promise<StateDicts> {
  const whole: FileContents = { format: "safetensors", named: [], metadata: new Map(), sides: null };
  const missing = new Map(shardOf);
  for (const [index, shard] of shards.entries()) {
    const { format, named, metadata } = await readContents(shard, first + index);
    whole.format = format;
    for (const [key, text] of metadata) whole.metadata.set(key, text);
    for (const entry of named) {
      if (entry.container !== "" || shardOf.get(entry.name) !== shard.path) continue; // the index says whose it is
      whole.named.push(entry);
      missing.delete(entry.name);
    }
  }
  for (const [tensor, shard] of missing) {
    throw new InvalidCheckpointError(`${path}: it says that ${shard} holds ${printable(tensor)}, which is not there`);
  }
  return collect(path, whole, wanted);
}

async function collect(path: string, contents: FileContents, wanted: Wanted): Promise<StateDicts> {
  const { format, named, metadata, sides } = contents;
  if (named.length === 0) throw new InvalidCheckpointError(`${path}: it holds no tensors`);
  const parts = { var: new Map<string, StoredTensor>(), vae: new Map<string, StoredTensor>() };
  const dicts: StateDicts = {
    path,
    format,
    parts,
    buffers: new Map(),
    sets: [],
    trainedSides: sides,
    metadata,
    warnings: [],
  };
  await take(dicts, candidatesOf(path, named), wanted);
  return dicts;
}

async function readContents(source: ByteSource, file: number): Promise<FileContents> {
  const format = await detectFormat(source);
  if (format === "safetensors") {
    const { tensors, metadata } = await readSafetensors(source, file);
    const named = [...tensors].map(([name, tensor]) => ({
      container: "",
      name,
      tensor: { shape: tensor.shape, locate: async () => tensor },
    }));
    return { format, named, metadata, sides: null };
  }
  const torch = await (format === "torch-zip" ? readTorchZip(source) : readTorchLegacy(source));
  const { named, sides } = walk(source.path, torch.value);
  if (named.length === 0) throw new InvalidCheckpointError(`${source.path}: ${describeContent(torch.value)}`);
  // One object per tensor: two dicts may share their tensors, which tells that they are the same set.
  const unlocated = new Map(
    named.map(({ name, tensor }) => [
      tensor,
      { shape: tensor.shape, locate: () => torch.locate(name, tensor, file) } satisfies Unlocated,
    ]),
  );
  return {
    format,
    named: named.map((entry) => ({ ...entry, tensor: unlocated.get(entry.tensor)! })),
    metadata: new Map(),
    sides,
  };
}

function candidatesOf(path: string, named: NamedTensor<Unlocated>[]): Contents<Unlocated> {
  const contents = findCandidates(path, named);
  if (contents.candidates.length > 0) return contents;
  const names = named.map(({ name }) => name);
  refuseFamily(path, names);
  throw new InvalidCheckpointError(
    `${path}: none of its tensors belongs to a VAR or its tokenizer: ${listNames(names)}`,
  );
}

function refuseFamily(path: string, names: readonly string[]): void {
  const reason = recogniseStranger(names);
  if (reason !== null) throw new InvalidCheckpointError(`${path}: ${printable(reason, 400)}`);
}

/** Takes the wanted set of each part. */
async function take(
  dicts: StateDicts,
  contents: Contents<Unlocated>,
  { weights, parts = ["var", "vae"] }: Wanted,
): Promise<void> {
  const taken = new Set<Candidate<Unlocated>>();
  for (const part of parts) {
    const { candidate, warning } = choose(dicts.path, part, contents, weights);
    if (candidate === null) continue;
    refuseStrangers(dicts.path, contents, candidate);
    refusePlaceholders(dicts.path, candidate);
    taken.add(candidate);
    if (warning !== null) dicts.warnings.push(warning);
    for (const [name, { tensor }] of candidate.tensors) {
      if (!BUFFER.test(name)) dicts.parts[part].set(name, await tensor.locate());
      // Numbers of the other buffers do not even have to be there.
      else if (TELLING.has(name)) dicts.buffers.set(`${part}.${name}`, await tensor.locate());
    }
  }
  dicts.sets = contents.candidates.map((candidate) => ({
    part: candidate.part === "var" ? "transformer" : "tokenizer",
    name: candidate.name,
    kind: candidate.kind,
    tensors: candidate.tensors.size,
    taken: taken.has(candidate),
  }));
}

function refuseStrangers<T>(path: string, contents: Contents<T>, candidate: Candidate<T>): void {
  const strangers = strangersOf(contents, candidate).map(({ name }) => name);
  refuseFamily(path, [...candidate.tensors.keys(), ...strangers]);
  if (strangers.length === 0) return;
  throw new InvalidCheckpointError(`${path}: unexpected tensors: ${listNames(strangers)}`);
}

/** What a rank keeps of weights that are spread over others: names, and tensors without an element. */
function refusePlaceholders<T extends { shape: number[] }>(path: string, { tensors }: Candidate<T>): void {
  const empty = [...tensors].filter(([, { tensor }]) => numElements(tensor.shape) === 0).map(([name]) => name);
  if (2 * empty.length <= tensors.size) return; // one alone is a mistake of another kind: its shape will be refused
  throw new InvalidCheckpointError(
    `${path}: ${empty.length} of its tensors have no elements (${listNames(empty, 2)}): they are placeholders, as DeepSpeed's ZeRO-3 and FSDP leave them for weights that lie in other files: gather the weights first (zero_to_fp32.py, FullStateDictConfig)`,
  );
}

/** Parts of a training state that hold tensors, but no weights to run. */
const STATE =
  /optim|^opt$|_opt$|sched|^scaler$|callback|^loops$|rng|^args$|^config$|hyper_param|^grad|^(collected_params)$/i;
const MAX_LEVELS = 6;
const MAX_DICTS = 10_000;

interface Found {
  named: NamedTensor<TorchTensor>[];
  sides: number[] | null;
}

/** Every tensor of every dict in a pickle, with the place of the dict. Bounded, whatever refers to whatever. */
function walk(path: string, value: PickleValue): Found {
  if (value instanceof TorchTensor) {
    throw new InvalidCheckpointError(`${path}: a dict of tensors was expected, the file holds a single tensor`);
  }
  if (!(value instanceof PickleDict)) {
    throw new InvalidCheckpointError(`${path}: a dict of tensors was expected, the file holds ${kindOf(value)}`);
  }
  const found: Found = { named: [], sides: null };
  let level = [{ container: "", dict: value }];
  let visited = 0;
  for (let depth = 0; depth < MAX_LEVELS && level.length > 0; depth++) {
    const next: typeof level = [];
    for (const { container, dict } of level) {
      if (++visited > MAX_DICTS) throw new InvalidCheckpointError(`${path}: it holds more than ${MAX_DICTS} dicts`);
      found.sides ??= sidesOf(dict.get("config"));
      for (const [key, item] of dict.entries) {
        if (typeof key !== "string") continue; // an optimizer's states, by number
        if (item instanceof TorchTensor) found.named.push({ container, name: key, tensor: item });
        else if (item instanceof PickleDict && !STATE.test(key))
          next.push({ container: container === "" ? key : `${container}.${key}`, dict: item });
      }
    }
    level = next;
  }
  addShadows(found, value);
  return found;
}

/** `torch_ema` keeps an average as a bare list, in the order of the model's parameters. */
function addShadows(found: Found, root: PickleDict): void {
  for (const [key, item] of root.entries) {
    const list = item instanceof PickleDict ? item.get("shadow_params") : undefined;
    if (typeof key !== "string" || !(list instanceof PickleList)) continue;
    const parameters = found.named.filter(({ name }) => !BUFFER.test(name.replace(/^((module|_orig_mod)\.)+/, "")));
    const fits = (tensor: PickleValue | undefined, index: number) =>
      tensor instanceof TorchTensor && String(tensor.shape) === String(parameters[index]?.tensor.shape);
    if (parameters.length !== list.items.length || !list.items.every(fits)) continue;
    const container = `${key}.shadow_params`;
    const shadows = parameters.map(({ name }, index) => ({
      container,
      name,
      tensor: list.items[index] as TorchTensor,
    }));
    found.named.push(...shadows);
    return;
  }
}

function sidesOf(config: PickleValue | undefined): number[] | null {
  const sides = config instanceof PickleDict ? config.get("patch_nums") : undefined;
  if (!(sides instanceof PickleTuple) || sides.items.length > 64) return null;
  return sides.items.every((side) => Number.isSafeInteger(side)) ? (sides.items as number[]).slice() : null;
}

function describeContent(root: PickleValue): string {
  if (!(root instanceof PickleDict)) return `no tensors were found in it, only ${kindOf(root)}`;
  const keys = [...root.entries.keys()].map((key) => (typeof key === "string" ? key : kindOf(key)));
  return keys.length === 0 ? "the dict in it is empty" : `no tensors were found in it, only ${listNames(keys)}`;
}

/** The first few names, and how many more there are. */
export function listNames(names: readonly string[], limit = 4): string {
  const shown = names
    .slice(0, limit)
    .map((name) => printable(name))
    .join(", ");
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
