/**
 * Which sets of weights does a file hold? Trainers wrap them in dicts and prefixes, and write averages beside them:
 * every set is found under the name of its place, and which one is taken is never silent.
 */

import { InvalidCheckpointError } from "../errors.js";
import { numElements } from "./dtype.js";
import { printable } from "./pickle-values.js";

/** The parts of a model: transformer and tokenizer. */
export type Part = "var" | "vae";

/** Weights as the optimizer left them, or an average over steps. */
export type WeightsKind = "raw" | "ema";

/** A tensor under its name in one dict of the file. */
export interface NamedTensor<T> {
  /** Where the dict stands in the file: `trainer.var_wo_ddp`; empty for the outermost. */
  container: string;
  name: string;
  tensor: T;
}

/** One part's weights, in one place of the file. */
export interface Candidate<T> {
  part: Part;
  /** The place: dicts and prefixes, without those of wrappers. Empty at the top of the file. */
  name: string;
  kind: WeightsKind;
  /** By the reference's names. */
  tensors: Map<string, NamedTensor<T>>;
}

/** What a file holds. */
export interface Contents<T> {
  candidates: Candidate<T>[];
  /** Tensors that belong to no part. */
  strangers: NamedTensor<T>[];
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

/** Modules that hold another one and add a segment to its names. */
const WRAPPERS = new Set(["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]);

/** The last segment of a prefix that says which part follows. */
const PART_NAMES: Record<string, Part> = { var: "var", var_wo_ddp: "var", vae: "vae", vae_local: "vae" };

/** What averages keep beside their weights. */
const COUNTER =
  /(^|\.)(n_averaged|initted|steps?|global_step|decay|num_updates|num_batches_tracked|epochs?|iter(ation)?s?)$/;

const AVERAGE = /(^|[^a-z])(ema|swa|avg|averaged?|shadow|polyak)([^a-z]|$)|(^|[a-z])(Ema|EMA)([^a-z]|$)/;

export function isAverage(place: string): boolean {
  return AVERAGE.test(place) || AVERAGE.test(place.toLowerCase());
}

interface Place {
  part: Part;
  prefix: string;
  name: string;
}

/** Prefix, part and reference name of a tensor; null for one that belongs to neither part. */
export function placeOf(full: string): Place | null {
  const segments = full.split(".").filter((segment) => !WRAPPERS.has(segment));
  const root = segments.findIndex((segment) => Object.hasOwn(ROOTS, segment));
  if (root < 0) return null;
  const prefix = segments.slice(0, root);
  if (prefix.some((segment) => /^\d+$/.test(segment))) return null; // a part of somebody else's layers
  const part = ROOTS[segments[root]!]!;
  const said = Object.hasOwn(PART_NAMES, prefix.at(-1) ?? "") ? PART_NAMES[prefix.at(-1)!] : undefined;
  if (said !== undefined && said !== part) return null;
  return { part, prefix: prefix.join("."), name: segments.slice(root).join(".") };
}

/** @throws InvalidCheckpointError when two tensors of one set have the same name */
export function findCandidates<T extends { shape: number[] }>(
  path: string,
  named: Iterable<NamedTensor<T>>,
): Contents<T> {
  const found = new Map<string, Candidate<T>>();
  const rest: NamedTensor<T>[] = [];
  const averaged = new Set<string>(); // places whose counter says that they are averages
  for (const entry of named) {
    const place = placeOf(entry.name);
    if (place === null) {
      if (numElements(entry.tensor.shape) > 1 || !COUNTER.test(entry.name)) rest.push(entry);
      if (/(^|\.)n_averaged$/.test(entry.name))
        averaged.add(joined(entry.container, entry.name.replace(/\.?n_averaged$/, "")));
      continue;
    }
    const name = joined(entry.container, place.prefix);
    add(path, found, { part: place.part, name, kind: isAverage(name) ? "ema" : "raw" }, place.name, entry);
  }
  const strangers = rest.filter((entry) => !addDotless(path, found, entry));
  for (const candidate of found.values()) if (averaged.has(candidate.name)) candidate.kind = "ema";
  const candidates = distinct([...found.values()]);
  return { candidates: candidates.filter((candidate) => !isFragment(candidate, candidates)), strangers };
}

function add<T>(
  path: string,
  found: Map<string, Candidate<T>>,
  { part, name, kind }: Omit<Candidate<T>, "tensors">,
  tensorName: string,
  entry: NamedTensor<T>,
): void {
  const key = `${part} ${name}`;
  const candidate = found.get(key) ?? { part, name, kind, tensors: new Map() };
  found.set(key, candidate);
  if (candidate.tensors.has(tensorName)) {
    const full = printable(entry.container === "" ? entry.name : `${entry.container}.${entry.name}`);
    throw new InvalidCheckpointError(`${path}: ${full} and another tensor have the same name ${printable(tensorName)}`);
  }
  candidate.tensors.set(tensorName, entry);
}

/** Latent-diffusion trainers keep an average under names without dots: `model_ema.blocks0attnprojweight`. */
function addDotless<T>(path: string, found: Map<string, Candidate<T>>, entry: NamedTensor<T>): boolean {
  const [prefix, dotless, ...more] = entry.name.split(".");
  if (dotless === undefined || more.length > 0 || !isAverage(prefix!)) return false;
  for (const { part, kind, tensors } of [...found.values()]) {
    if (kind === "ema") continue;
    for (const name of tensors.keys()) {
      const [bare, inPart] = [name.replaceAll(".", ""), `${part}.${name}`.replaceAll(".", "")];
      if (dotless !== bare && dotless !== inPart) continue;
      add(path, found, { part, name: joined(entry.container, prefix!), kind: "ema" }, name, entry);
      return true;
    }
  }
  return false;
}

/** The same tensors under a second name are no second set, unless one is called an average. */
function distinct<T>(candidates: Candidate<T>[]): Candidate<T>[] {
  const same = (a: Candidate<T>, b: Candidate<T>) =>
    a.part === b.part &&
    a.kind === b.kind &&
    a.tensors.size === b.tensors.size &&
    [...a.tensors].every(([name, { tensor }]) => b.tensors.get(name)?.tensor === tensor);
  return candidates.filter((a, index) => !candidates.slice(0, index).some((b) => same(a, b)));
}

/** A discriminator's `encoder`, a classifier's `head`: beside a whole set, a few tensors that only share a name. */
function isFragment<T>(candidate: Candidate<T>, all: readonly Candidate<T>[]): boolean {
  return all.some(({ part, tensors }) => part === candidate.part && tensors.size > 2 * candidate.tensors.size);
}

/** What {@link choose} found, and what has to be said about it. */
export interface Choice<T> {
  candidate: Candidate<T> | null;
  warning: string | null;
}

/**
 * The weights of a part: those that `wanted` names (`"raw"`, `"ema"` or a place), else the raw ones.
 *
 * @throws InvalidCheckpointError when several sets fit
 */
export function choose<T>(path: string, part: Part, contents: Contents<T>, wanted: string | undefined): Choice<T> {
  const all = contents.candidates.filter((candidate) => candidate.part === part);
  const named = wanted === undefined ? undefined : all.find(({ name }) => name === wanted);
  if (named !== undefined) return { candidate: named, warning: null };
  const kind = wanted === "ema" ? "ema" : "raw";
  const fitting = all.filter((candidate) => candidate.kind === kind);
  const pool = fitting.length > 0 ? fitting : all;
  if (pool.length > 1) {
    const names = pool.map(({ name }) => quoted(name)).join(", ");
    throw new InvalidCheckpointError(
      `${path}: holds ${pool.length} sets of ${pool[0]!.kind === "ema" ? "averaged " : ""}weights of a ${NAMES[part]} (${names}): name one with the option "weights"`,
    );
  }
  const candidate = pool[0] ?? null;
  return { candidate, warning: wanted === undefined ? defaultWarning(path, part, candidate, all) : null };
}

function defaultWarning<T>(path: string, part: Part, taken: Candidate<T> | null, all: Candidate<T>[]): string | null {
  const averages = all.filter(({ kind }) => kind === "ema");
  if (taken === null || averages.length === 0) return null;
  if (taken.kind === "ema") {
    return `${path}: of the ${NAMES[part]}, only an average of the weights is there (${quoted(taken.name)}): it is taken`;
  }
  const names = averages.map(({ name }) => quoted(name)).join(", ");
  return `${path} holds the ${NAMES[part]}'s weights (${quoted(taken.name)}) and their average (${names}): the weights are taken; the option weights "ema" takes the average`;
}

/** Tensors of the same dict, and under the same prefix, that belong to nothing. */
export function strangersOf<T>({ strangers }: Contents<T>, { name }: Candidate<T>): NamedTensor<T>[] {
  return strangers.filter((entry) => {
    const segments = joined(entry.container, entry.name)
      .split(".")
      .filter((segment) => !WRAPPERS.has(segment));
    return name === "" ? entry.container === "" : segments.join(".").startsWith(`${name}.`);
  });
}

export const NAMES: Record<Part, string> = { var: "transformer", vae: "tokenizer" };

/** A place, as messages and `inspect` write it. */
export function quoted(name: string): string {
  return name === "" ? "the top of the file" : printable(name);
}

function joined(container: string, name: string): string {
  const segments = [container, name].filter((text) => text !== "");
  return segments
    .join(".")
    .split(".")
    .filter((segment) => !WRAPPERS.has(segment))
    .join(".");
}
