/** Any checkpoint -> one safetensors file. Tensors are streamed: memory does not depend on their size. */

import { type FileHandle, stat } from "node:fs/promises";
import { InvalidOptionError, IoError, NotFiniteError } from "../errors.js";
import { replaceFile, writeAll } from "../files/atomic-file.js";
import { safetensorsLayout } from "../files/safetensors.js";
import type { DType, TensorEntry } from "../native/contract.js";
import { CONVERT, type ConvertOptions, type ModelNotes, NOTES } from "../options/checkpoint.js";
import { bytesOf, numElements, storedDType } from "./dtype.js";
import { checkNotes, formatMetadata, METADATA_KEY } from "./metadata.js";
import { type Checkpoint, openCheckpoint } from "./open.js";
import { readTensor } from "./read-tensor.js";
import { bitsOf, convert, findNonFinite } from "./round.js";
import { type FileSource, throwIfAborted, withFiles } from "./source.js";

export interface ConvertResult {
  output: string;
  bytes: number;
  checkpoint: Checkpoint;
}

const CHUNK_ELEMENTS = 2 ** 18; // 1 MiB of f32: its conversion holds the event loop for a millisecond or two
const ALIGNMENT = 64;

/**
 * Writes one safetensors file with everything that the core needs. It is written beside its place and renamed at the
 * end: whatever fails, an older file stays as it was and nothing half-written is left.
 *
 * @throws InvalidCheckpointError, UnsafeCheckpointError, NotFiniteError (a NaN or infinite weight), IoError,
 *   InvalidOptionError (a weight that does not fit into f16, notes that do not fit the model), AbortError
 */
export async function convertCheckpoint(raw: ConvertOptions): Promise<ConvertResult> {
  const options = CONVERT.read(raw);
  const { weights, heads, sides, residualMix, signal } = options;
  const checkpoint = await openCheckpoint(options.source as ConvertOptions["source"], {
    weights,
    heads,
    sides,
    residualMix,
    signal,
  });
  const bytes = await writeModel(checkpoint, mergeNotes(checkpoint, options), options);
  return { output: options.output, bytes, checkpoint };
}

/** What is written: tensors of one or more files, and the architecture that they make together. */
export type ModelTensors = Pick<Checkpoint, "files" | "tensors" | "config"> & Partial<Pick<Checkpoint, "stamps">>;

type WriteOptions = Pick<ConvertOptions, "dtype" | "signal" | "onProgress"> & { output: string };

/** The second half of a conversion. The notes must fit the model. Returns the bytes of the file. */
export async function writeModel(model: ModelTensors, notes: ModelNotes, options: WriteOptions): Promise<number> {
  const { output, signal } = options;
  const plan = planFile(model, notes, options.dtype);
  await requireWritable(output);
  await replaceFile(output, async (file) => {
    await withFiles(model.files, (files) => writeTensors(file, plan, files, options), model.stamps);
    throwIfAborted(signal, "the conversion");
  });
  return plan.bytes;
}

/** What the source knows, overridden by what the caller says. */
function mergeNotes(checkpoint: Checkpoint, options: Record<string, unknown>): ModelNotes {
  const notes: Record<string, unknown> = {};
  for (const key of Object.keys(NOTES.rows) as (keyof ModelNotes)[]) {
    const value = options[key] ?? checkpoint[key];
    if (value !== undefined) notes[key] = value;
  }
  const problem = checkNotes(notes, checkpoint);
  // The first word of a problem is the note that it is about.
  if (problem !== null) throw new InvalidOptionError(problem.split(" ", 1)[0]!, problem, "what fits the model");
  return notes;
}

interface Target {
  source: TensorEntry;
  dtype: DType;
  bytes: number;
}

interface FilePlan {
  header: Buffer;
  targets: Target[];
  bytes: number;
}

/** Big tensors begin at multiples of 64 bytes; gaps are not allowed, so those of odd size come last. */
function planFile(checkpoint: ModelTensors, notes: ModelNotes, dtype: DType | undefined): FilePlan {
  const targets = checkpoint.tensors.map((source): Target => {
    const format = dtype === undefined ? source.dtype : isMatrix(source) ? dtype : "f32";
    return { source, dtype: format, bytes: numElements(source.shape) * bytesOf(storedDType(format)) };
  });
  const rank = ({ bytes, dtype: format }: Target) => (bytes % ALIGNMENT === 0 ? 0 : format === "f32" ? 1 : 2);
  targets.sort((a, b) => rank(a) - rank(b)); // stable: otherwise the order of the source
  const tensors = targets.map(({ source: { name, shape }, dtype: format, bytes }) => {
    return { name, dtype: storedDType(format), shape, bytes };
  });
  const metadata = {
    format: "pt",
    [METADATA_KEY]: formatMetadata({ ...notes, architecture: checkpoint.config }),
  };
  const { header, fileBytes } = safetensorsLayout(tensors, { alignment: ALIGNMENT, metadata });
  return { header, targets, bytes: fileBytes };
}

/** Weights of linear layers and of the convolutions of encoder and decoder. */
function isMatrix({ name, shape }: TensorEntry): boolean {
  if (!name.endsWith(".weight") || shape.length < 2) return false;
  return !/\.(class_emb|lvl_embed)\.|\.quantize\./.test(name);
}

async function writeTensors(
  file: FileHandle,
  plan: FilePlan,
  files: FileSource[],
  options: WriteOptions,
): Promise<void> {
  await writeAll(file, plan.header);
  let written = plan.header.length;
  const scratch = new Scratch();
  for (const target of plan.targets) {
    for await (const bytes of streamTensor(target, files[target.source.file]!, scratch)) {
      throwIfAborted(options.signal, "the conversion");
      await writeAll(file, bytes);
      written += bytes.length;
      options.onProgress?.(written / plan.bytes, target.source.name);
    }
  }
}

/** Two chunks: all memory that streaming takes. */
class Scratch {
  readonly input = new Uint8Array(CHUNK_ELEMENTS * 4);
  readonly output = new Uint8Array(CHUNK_ELEMENTS * 4);
}

async function* streamTensor(
  { source, dtype }: Target,
  file: FileSource,
  scratch: Scratch,
): AsyncGenerator<Uint8Array> {
  const { name, shape } = source;
  const [inputSize, outputSize] = [bytesOf(storedDType(source.dtype)), bytesOf(storedDType(dtype))];
  const input = bitsOf(scratch.input, source.dtype);
  const output = bitsOf(scratch.output, dtype);
  let first = 0;
  for await (const piece of readTensor(
    file,
    source,
    inputSize,
    scratch.input.subarray(0, CHUNK_ELEMENTS * inputSize),
  )) {
    const count = piece.length / inputSize;
    const bad = findNonFinite(input, source.dtype, count);
    if (bad >= 0) {
      throw new NotFiniteError(
        `${file.path}: tensor ${name} is NaN or infinite at element ${first + bad} of [${shape.join(", ")}]`,
      );
    }
    if (dtype === source.dtype) {
      yield piece;
      first += count;
      continue;
    }
    convert(output, dtype, input, source.dtype, count);
    const lost = findNonFinite(output, dtype, count);
    if (lost >= 0) {
      const at = `${dtype}, but element ${first + lost} of tensor ${name} is too large for it`;
      throw new InvalidOptionError("dtype", at, dtype === "f16" ? '"bf16" or "f32"' : '"f32"');
    }
    yield scratch.output.subarray(0, count * outputSize);
    first += count;
  }
}

/** An output that cannot be is refused before hours of work, not after. */
async function requireWritable(output: string): Promise<void> {
  const stats = await stat(output).catch(() => null);
  if (stats?.isDirectory()) throw new IoError(`cannot write ${output}: it is a folder`);
}
