/** Opens checkpoints: files -> two lists of tensors -> architecture -> the table that the core reads. */

import { setImmediate as turn } from "node:timers/promises";
import { InvalidCheckpointError, InvalidOptionError } from "../errors.js";
import type { DType, FileStamp, NativeConfig, TensorEntry } from "../native/contract.js";
import {
  type CheckpointSource,
  type ModelNotes,
  OPEN,
  type OpenOptions,
  type ResolvedSource,
  resolveSource,
} from "../options/checkpoint.js";
import { inferTokenizer, inferTransformer, resolveHeads } from "./architecture.js";
import { NAMES, type Part, quoted } from "./candidates.js";
import type { FileFormat } from "./detect.js";
import { bytesOf, numElements, type StoredTensor, weightDType } from "./dtype.js";
import type { TokenizerShape, TransformerShape } from "./expected.js";
import { checkNotes, differenceOf, type MetadataBlock, parseMetadata } from "./metadata.js";
import { expandSource, type SourceGroup } from "./shards.js";
import { contradiction, sidesFromCounts, sidesFromLevels } from "./sides.js";
import { type ByteSource, throwIfAborted, withFiles } from "./source.js";
import { readShards, readStateDicts, type StateDicts, type WeightsSet } from "./state-dict.js";

/** What is in one or two files, complete or not. */
export interface CheckpointInfo extends ModelNotes {
  files: string[];
  /** What each file was when its header was read: whoever reads the weights later refuses one that has changed. */
  stamps: FileStamp[];
  formats: FileFormat[];
  /** Sorted by file and offset. */
  tensors: TensorEntry[];
  transformer: TransformerShape | null;
  tokenizer: TokenizerShape | null;
  /** null unless both parts are there. */
  config: NativeConfig | null;
  /** Number of scales that the tokenizer was trained with; null where its file does not tell. */
  trainedScales: number | null;
  numParameters: number;
  /** Bytes of the weights. */
  bytes: number;
  /** Bytes of the weights in each format. */
  bytesByDType: Record<DType, number>;
  /** Every set of weights in the files, and which were taken ({@link OpenOptions.weights}). */
  sets: WeightsSet[];
  /** What had to be assumed. */
  warnings: string[];
}

/** A whole model, ready for the core. */
export interface Checkpoint extends CheckpointInfo {
  transformer: TransformerShape;
  tokenizer: TokenizerShape;
  config: NativeConfig;
}

/**
 * Reads everything of a model but its weights: formats, names, shapes, places, architecture.
 *
 * @throws InvalidCheckpointError, UnsafeCheckpointError, IoError, InvalidOptionError, AbortError
 */
export async function openCheckpoint(source: CheckpointSource, options: OpenOptions = {}): Promise<Checkpoint> {
  const info = await inspectCheckpoint(source, options);
  const { config, transformer, tokenizer } = info;
  if (config !== null && transformer !== null && tokenizer !== null) return { ...info, config, transformer, tokenizer };
  const [held, missing] = transformer === null ? ["tokenizer", "transformer"] : ["transformer", "tokenizer"];
  throw new InvalidCheckpointError(
    `${info.files.join(", ")}: holds a ${held} but no ${missing}: give both files, { var, tokenizer }`,
  );
}

/** Like {@link openCheckpoint}, but a transformer or a tokenizer alone will do. */
export async function inspectCheckpoint(source: CheckpointSource, options: OpenOptions = {}): Promise<CheckpointInfo> {
  const { paths, roles } = resolveSource(source);
  const resolved = OPEN.read(options);
  throwIfAborted(resolved.signal, "opening the checkpoint");
  const groups: SourceGroup[] = [];
  for (const path of paths) groups.push(await expandSource(path));
  return withFiles(
    groups.flatMap(({ files }) => files),
    async (files) => ({
      ...(await inspectGroups(groups, files, roles, resolved)),
      stamps: files.map(({ stamp }) => stamp),
    }),
  );
}

/** {@link inspectCheckpoint} for files that are open already. */
export async function inspectSources(
  sources: readonly ByteSource[],
  roles: Roles = {},
  options: OpenOptions = {},
): Promise<Omit<CheckpointInfo, "stamps">> {
  const groups = sources.map(({ path }) => ({ path, files: [path], shardOf: null }));
  return inspectGroups(groups, sources, roles, options);
}

async function inspectGroups(
  groups: readonly SourceGroup[],
  sources: readonly ByteSource[],
  roles: Roles,
  options: OpenOptions,
): Promise<Omit<CheckpointInfo, "stamps">> {
  const dicts: StateDicts[] = [];
  const formats: FileFormat[] = [];
  let first = 0;
  for (const [index, { path, files, shardOf }] of groups.entries()) {
    throwIfAborted(options.signal, "opening the checkpoint");
    const wanted = { weights: options.weights, parts: partsOf(roles, index) };
    const own = sources.slice(first, first + files.length);
    const read =
      shardOf === null ? readStateDicts(own[0]!, first, wanted) : readShards(path, own, first, shardOf, wanted);
    dicts.push(await read);
    formats.push(...files.map(() => dicts.at(-1)!.format));
    first += files.length;
  }
  requireWeights(dicts, options.weights);
  return describe(new Assembly(sources, dicts, roles), formats, options);
}

/** Parts that a source is read for: what it was given as, or everything. */
function partsOf(roles: Roles, index: number): Part[] {
  const parts: Part[] = ["var", "vae"];
  return Object.keys(roles).length === 0 ? parts : parts.filter((part) => roles[part] === index);
}

/** Weights that were asked for by kind or name are somewhere. */
function requireWeights(dicts: readonly StateDicts[], weights: string | undefined): void {
  if (weights === undefined) return;
  const sets = dicts.flatMap((dict) => dict.sets);
  const is = ({ kind, name }: WeightsSet) =>
    name === weights || ((weights === "raw" || weights === "ema") && kind === weights);
  if (sets.some((set) => set.taken && is(set))) return;
  const listed = sets.map(({ part, name, kind }) => `${quoted(name)} (${part}, ${kind})`).join(", ");
  throw new InvalidOptionError("weights", JSON.stringify(weights), `weights that are there: ${listed}`);
}

type Roles = ResolvedSource["roles"];

/** The files, and which of them holds which part. */
class Assembly {
  readonly of: Record<Part, StateDicts | null>;

  constructor(
    readonly files: readonly ByteSource[],
    readonly dicts: StateDicts[],
    roles: Roles,
  ) {
    const byRole = Object.keys(roles).length > 0;
    const find = (part: Part): StateDicts | null => {
      if (byRole) return roles[part] === undefined ? null : this.require(part, dicts[roles[part]]!);
      const holders = dicts.filter((dict) => dict.parts[part].size > 0);
      if (holders.length < 2) return holders[0] ?? null;
      throw new InvalidCheckpointError(
        `${holders.map(({ path }) => path).join(" and ")}: both hold a ${NAMES[part]}: say which one is meant with { var, tokenizer }`,
      );
    };
    this.of = { var: find("var"), vae: find("vae") };
  }

  private require(part: Part, dict: StateDicts): StateDicts {
    if (dict.parts[part].size > 0) return dict;
    if (dict.sets.length === 0) throw new InvalidCheckpointError(`${dict.path}: holds no ${NAMES[part]}`);
    const other = part === "var" ? "vae" : "var";
    throw new InvalidCheckpointError(
      `${dict.path}: was given as the ${NAMES[part]}, but holds only a ${NAMES[other]}: are the two files swapped?`,
    );
  }
}

async function describe(
  assembly: Assembly,
  formats: FileFormat[],
  options: OpenOptions,
): Promise<Omit<CheckpointInfo, "stamps">> {
  const { var: transformerFile, vae: tokenizerFile } = assembly.of;
  const warnings = [...new Set([transformerFile, tokenizerFile])].flatMap((dicts) => dicts?.warnings ?? []);
  await turn(); // each step takes a millisecond or two for a large model: the event loop runs in between
  const transformer = transformerFile && inferTransformer(transformerFile.path, transformerFile.parts.var);
  await turn();
  const tokenizer = tokenizerFile && inferTokenizer(tokenizerFile.path, tokenizerFile.parts.vae);
  const holder = transformerFile ?? tokenizerFile;
  const block = holder && parseMetadata(holder.path, holder.metadata);
  const given = options.heads ?? (transformer?.numHeads === null ? block?.architecture.numHeads : undefined);
  const warn = (text: string) => warnings.push(text);
  const headsOf = (path: string, shape: TransformerShape) => resolveHeads(path, shape, given, warn);
  let config: NativeConfig | null = null;
  if (transformerFile && tokenizerFile && transformer && tokenizer) {
    const names = { var: transformerFile.path, vae: tokenizerFile.path };
    requirePair(names, transformer, tokenizer);
    const sides = await resolveSides(assembly.files, transformerFile, transformer, block, options);
    const heads = headsOf(names.var, transformer);
    config = configOf(transformer, tokenizer, sides, heads, mixOf(tokenizer, block, options));
    if (transformerFile === tokenizerFile) checkMetadata(names.var, block, config, options);
    warnHits(tokenizerFile, config, warnings);
  } else if (transformerFile && transformer) {
    try {
      headsOf(transformerFile.path, transformer);
    } catch (error) {
      warnings.push((error as Error).message); // a part alone can be looked at without them
    }
  }
  await turn();
  const trainedScales = tokenizerFile === null ? null : scalesOfHits(tokenizerFile);
  const { architecture: _, ...notes } = block ?? ({} as Partial<MetadataBlock>);
  const sets = assembly.dicts.flatMap((dicts) => dicts.sets);
  return { ...notes, ...tableOf(assembly), formats, transformer, tokenizer, config, trainedScales, sets, warnings };
}

function requirePair(names: Record<Part, string>, transformer: TransformerShape, tokenizer: TokenizerShape): void {
  const mismatch = (what: string, a: number, b: number) => {
    if (a === b) return;
    throw new InvalidCheckpointError(`${names.var} and ${names.vae} do not belong together: ${what}: ${a} and ${b}`);
  };
  mismatch("the transformer's head and the codebook differ in size", transformer.codebookSize, tokenizer.codebookSize);
  mismatch("the transformer's word_embed and the code vectors differ in width", transformer.codeDim, tokenizer.codeDim);
  if (tokenizer.residualConvs.sharing === "per-scale") {
    mismatch(
      "number of scales and number of residual convolutions",
      transformer.numScales,
      tokenizer.residualConvs.count,
    );
  }
}

async function resolveSides(
  files: readonly ByteSource[],
  dicts: StateDicts,
  counts: TransformerShape,
  block: MetadataBlock | null,
  options: OpenOptions,
): Promise<number[]> {
  if (options.sides !== undefined) {
    const problem = contradiction(options.sides, counts);
    if (problem === null) return [...options.sides];
    throw new InvalidOptionError("sides", `[${options.sides.join(", ")}]`, `the sides of ${dicts.path} (${problem})`);
  }
  const levels = dicts.buffers.get("var.lvl_1L");
  const [sides, origin] =
    levels !== undefined
      ? [sidesFromLevels(await readLevels(files[levels.file]!, levels, counts.numTokens), dicts.path), "lvl_1L"]
      : block !== null
        ? [block.architecture.sides, "the metadata"]
        : dicts.trainedSides !== null
          ? [dicts.trainedSides, "the trainer's configuration"]
          : [sidesFromCounts(counts, dicts.path), "the number of tokens"];
  const problem = contradiction(sides, counts);
  if (problem === null) return sides;
  throw new InvalidCheckpointError(
    `${dicts.path}: the sides [${sides.join(", ")}] of ${origin} cannot be right: ${problem}`,
  );
}

/** The level of each token. Its length equals that of `pos_1LC`, whose weights are in the file, so it is bounded. */
async function readLevels(file: ByteSource, tensor: StoredTensor, numTokens: number): Promise<number[]> {
  if (tensor.dtype !== "I64" || numElements(tensor.shape) !== numTokens || tensor.strides !== undefined) {
    throw new InvalidCheckpointError(
      `${file.path}: tensor lvl_1L is ${tensor.dtype} [${tensor.shape.join(", ")}], I64 [1, ${numTokens}] was expected`,
    );
  }
  const bytes = await file.read(tensor.offset, 8 * numTokens);
  return Array.from({ length: numTokens }, (_, index) => Number(bytes.readBigInt64LE(8 * index)));
}

function mixOf(tokenizer: TokenizerShape, block: MetadataBlock | null, options: OpenOptions): number {
  if (tokenizer.residualConvs.sharing === "none") return 0;
  return options.residualMix ?? block?.architecture.residualMix ?? 0.5;
}

function configOf(
  transformer: TransformerShape,
  tokenizer: TokenizerShape,
  sides: number[],
  numHeads: number,
  residualMix: number,
): NativeConfig {
  const { depth, width, mlpWidth, numClasses, sharedAda, l2Norm } = transformer;
  const { codebookSize, codeDim, residualConvs, channels, multipliers, numResBlocks } = tokenizer;
  return {
    depth,
    width,
    numHeads,
    mlpWidth,
    numClasses,
    sharedAda,
    l2Norm,
    codebookSize,
    codeDim,
    numResidualConvs: residualConvs.sharing === "per-scale" ? 0 : Math.max(1, residualConvs.count),
    residualMix,
    channels,
    multipliers,
    numResBlocks,
    sides,
  };
}

/** Metadata and tensors must tell the same, except where the caller overrides. */
function checkMetadata(path: string, block: MetadataBlock | null, config: NativeConfig, options: OpenOptions): void {
  if (block === null) return;
  const { numHeads, residualMix, sides } = config;
  const noted = {
    ...block.architecture,
    ...(options.heads !== undefined && { numHeads }),
    ...(options.residualMix !== undefined && { residualMix }),
    ...(options.sides !== undefined && { sides }),
  };
  const problem = differenceOf(noted, config) ?? checkNotes(block, { config });
  if (problem !== null) throw new InvalidCheckpointError(`${path}: ${problem}`);
}

/** The tokenizer's statistics have a row per scale: a hint when a pair was not trained together. */
function warnHits(dicts: StateDicts, { sides }: NativeConfig, warnings: string[]): void {
  const rows = scalesOfHits(dicts);
  if (rows === null || rows === sides.length) return;
  warnings.push(`${dicts.path} was trained with ${rows} scales, the transformer has ${sides.length}`);
}

function scalesOfHits(dicts: StateDicts): number | null {
  return dicts.buffers.get("vae.quantize.ema_vocab_hit_SV")?.shape[0] ?? null;
}

function tableOf({ files, of }: Assembly) {
  const tensors: TensorEntry[] = [];
  const bytesByDType: Record<DType, number> = { f32: 0, f16: 0, bf16: 0 };
  let numParameters = 0;
  for (const part of ["var", "vae"] as const) {
    for (const [name, { dtype, shape, strides, file, offset }] of of[part]?.parts[part] ?? []) {
      const format = weightDType(dtype)!; // inference has refused the others
      tensors.push({ name: `${part}.${name}`, dtype: format, shape, ...(strides && { strides }), file, offset });
      bytesByDType[format] += numElements(shape) * bytesOf(dtype);
      numParameters += numElements(shape);
    }
  }
  tensors.sort((a, b) => a.file - b.file || a.offset - b.offset);
  const bytes = bytesByDType.f32 + bytesByDType.f16 + bytesByDType.bf16;
  const paths = files.map(({ path }) => path);
  return { files: paths, tensors, numParameters, bytes, bytesByDType };
}
