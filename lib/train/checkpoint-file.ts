/**
 * One training checkpoint: a safetensors file with the weights, the optimizer's moments and the average, and as
 * metadata the few numbers that the rest of a run's state is a function of. A digest over the whole file tells a whole
 * one from a damaged one; it stands in the header, whose other bytes it covers as well (its own place counts as zeros).
 */

import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { TimeSlice } from "../base/time-slice.js";
import { readSafetensors } from "../checkpoint/safetensors.js";
import { FileSource } from "../checkpoint/source.js";
import { InvalidCheckpointError } from "../errors.js";
import { type Files, replaceFile, writeAll } from "../files/atomic-file.js";
import { safetensorsLayout } from "../files/safetensors.js";
import type { NativeTrainer, TrainerArray } from "../native/contract.js";

/** What a resumed run must know beside the tensors. */
export interface TrainState {
  /** Updates done. */
  step: number;
  /** Of the recipe. */
  hash: string;
  /** Moving average of the loss by depth: for display only. */
  averages: Record<number, number>;
}

const FORMAT = "nextscale.training";
const VERSION = 1;
const NO_DIGEST = "0".repeat(64);
const ALIGNMENT = 64;
const CHUNK = 2 ** 20;

/** Arrays that a trainer holds, in the order of the file. */
export function arraysOf(average: boolean): TrainerArray[] {
  return average ? ["weights", "mean", "variance", "average"] : ["weights", "mean", "variance"];
}

/**
 * Writes a checkpoint: beside its place, to the disk, then renamed. Whatever fails and whenever the process is killed,
 * what was at `path` before stays, or the new file is whole. Returns its bytes. Throws an IoError.
 */
export async function writeCheckpoint(
  path: string,
  trainer: NativeTrainer,
  state: TrainState,
  average: boolean,
  files?: Files,
): Promise<number> {
  return replaceFile(path, (file) => writeContent(file, trainer, state, average), files);
}

async function writeContent(
  file: FileHandle,
  trainer: NativeTrainer,
  state: TrainState,
  average: boolean,
): Promise<number> {
  const { parameters } = trainer;
  const arrays = arraysOf(average);
  const header = headerOf(parameters, arrays, { ...state, optimizerSteps: trainer.steps });
  const hash = createHash("sha256").update(header);
  await writeAll(file, header, 0);
  let position = header.length;
  const scratch = new Float32Array(Math.max(...parameters.map(({ shape }) => countOf(shape))));
  for (const array of arrays) {
    for (const { name, shape } of parameters) {
      const values = scratch.subarray(0, countOf(shape));
      trainer.read(array, name, values);
      position += await writeHashed(file, hash, bytesOf(values), position);
    }
  }
  await writeAll(file, Buffer.from(hash.digest("hex"), "latin1"), digestOffset(header));
  return position;
}

async function writeHashed(file: FileHandle, hash: Hash, bytes: Uint8Array, at: number): Promise<number> {
  for (let done = 0; done < bytes.length; done += CHUNK) {
    const part = bytes.subarray(done, done + CHUNK);
    hash.update(part);
    await writeAll(file, part, at + done);
  }
  return bytes.length;
}

function headerOf(
  parameters: NativeTrainer["parameters"],
  arrays: TrainerArray[],
  state: TrainState & { optimizerSteps: number },
): Buffer {
  // The digest comes first, so that no other text of the header can be taken for it.
  const metadata = { sha256: NO_DIGEST, format: FORMAT, state: JSON.stringify({ version: VERSION, ...state }) };
  const tensors = arrays.flatMap((array) =>
    parameters.map(({ name, shape }) => ({ name: `${array}.${name}`, dtype: "F32", shape, bytes: 4 * countOf(shape) })),
  );
  return safetensorsLayout(tensors, { alignment: ALIGNMENT, metadata }).header;
}

const DIGEST_KEY = '{"__metadata__":{"sha256":"';

/** Where the digest stands; -1 when the file is not one of ours. */
function digestOffset(header: Buffer): number {
  const begin = 8 + DIGEST_KEY.length;
  const ours = header.toString("latin1", 8, begin) === DIGEST_KEY && header.length >= begin + NO_DIGEST.length;
  return ours ? begin : -1;
}

/** A checkpoint whose every byte has been read and found right. */
export interface OpenedCheckpoint {
  path: string;
  state: TrainState & { optimizerSteps: number };
  /** Place of each array of each parameter, as `weights.head.bias`; all F32. */
  tensors: Map<string, { shape: number[]; offset: number }>;
  bytes: number;
}

/** @throws InvalidCheckpointError for anything that is not a whole checkpoint, IoError */
export async function openTrainingCheckpoint(path: string): Promise<OpenedCheckpoint> {
  const source = await FileSource.open(path);
  try {
    const { tensors, metadata } = await readSafetensors(source, 0);
    if (metadata.get("format") !== FORMAT) throw damaged(path, "it is not a training checkpoint");
    const state = parseState(path, metadata.get("state"));
    await verify(source, metadata.get("sha256"));
    return { path, state, tensors, bytes: source.size };
  } finally {
    await source.close();
  }
}

async function verify(source: FileSource, digest: string | undefined): Promise<void> {
  const header = await source.read(0, 8 + Number((await source.read(0, 8)).readBigUInt64LE(0)));
  const at = digestOffset(header);
  if (at < 0) throw damaged(source.path, "its header does not begin with a digest");
  header.write(NO_DIGEST, at, "latin1");
  const hash = createHash("sha256").update(header);
  const bytes = new Uint8Array(CHUNK);
  const slice = new TimeSlice();
  for (let position = header.length; position < source.size; position += CHUNK) {
    const part = bytes.subarray(0, Math.min(CHUNK, source.size - position));
    await source.readInto(part, position);
    hash.update(part);
    if (slice.over) await slice.pause();
  }
  const found = hash.digest("hex");
  if (found !== digest) throw damaged(source.path, `its content has the digest ${found}, ${digest} was written`);
}

function parseState(path: string, text: string | undefined): OpenedCheckpoint["state"] {
  let state: Record<string, unknown>;
  try {
    state = JSON.parse(text ?? "null") as Record<string, unknown>;
  } catch (cause) {
    throw damaged(path, "its state is not JSON", cause);
  }
  if (state?.version !== VERSION) throw damaged(path, `its version is ${state?.version}, ${VERSION} was expected`);
  const { step, optimizerSteps, hash, averages } = state;
  const ok = isCount(step) && isCount(optimizerSteps) && typeof hash === "string" && typeof averages === "object";
  if (!ok || averages === null) throw damaged(path, "its state is not complete");
  return { step, optimizerSteps, hash, averages: averages as Record<number, number> };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Puts everything back into a trainer of the same shape. @throws InvalidCheckpointError, IoError */
export async function restore(trainer: NativeTrainer, checkpoint: OpenedCheckpoint, average: boolean): Promise<void> {
  const source = await FileSource.open(checkpoint.path);
  try {
    for (const array of arraysOf(average)) {
      for (const { name, shape } of trainer.parameters) {
        const tensor = checkpoint.tensors.get(`${array}.${name}`);
        if (tensor === undefined || tensor.shape.join() !== shape.join()) {
          const found = tensor === undefined ? "nothing" : `[${tensor.shape.join(", ")}]`;
          throw damaged(checkpoint.path, `${array}.${name}: found ${found}, expected [${shape.join(", ")}]`);
        }
        const values = new Float32Array(countOf(shape));
        await source.readInto(bytesOf(values), tensor.offset);
        trainer.write(array, name, values);
      }
    }
  } finally {
    await source.close();
  }
  trainer.steps = checkpoint.state.optimizerSteps;
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function damaged(path: string, found: string, cause?: unknown): InvalidCheckpointError {
  return new InvalidCheckpointError(`${path}: damaged checkpoint: ${found}`, { cause });
}
