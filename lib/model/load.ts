/** loadModel: options -> checkpoint -> core -> Model. */

import { listener } from "../base/listener.js";
import { openCheckpoint, openTokenizer, tokenizerFingerprint } from "../checkpoint/index.js";
import { AbortError, wrapNative } from "../errors.js";
import { bundledModelPath, loadBinding } from "../native/binding.js";
import type { DType, NativeModelSpec, TensorEntry } from "../native/contract.js";
import { machineMemory } from "../native/machine.js";
import {
  checkSource,
  checkTokenizerSource,
  type LoadOptions,
  type ModelSource,
  type ResolvedLoadOptions,
  resolveLoadOptions,
  resolveTokenizerOptions,
  type TokenizerOptions,
  type TokenizerSource,
} from "../options/load.js";
import { type Architecture, toArchitecture, toTokenizerArchitecture } from "../values/architecture.js";
import { type ChosenDevice, chooseDevice } from "./device.js";
import { onAbort } from "./lifecycle.js";
import { Model } from "./model.js";
import { Tokenizer } from "./tokenizer.js";

/**
 * Opens a model.
 *
 * @param source a safetensors file, a pair `{ var, tokenizer }` of PyTorch files, or nothing (or `"digits"`) for the
 *   bundled model of handwritten digits
 * @throws InvalidOptionError, InvalidCheckpointError, UnsafeCheckpointError, IoError, DeviceUnavailableError,
 *   OutOfMemoryError, NoBinaryError, AbortError
 */
export async function loadModel(source?: ModelSource, options?: LoadOptions): Promise<Model> {
  const from = checkSource(source);
  const resolved = resolveLoadOptions(options);
  throwIfAborted(resolved.signal);
  const addon = loadBinding(resolved.nativeBinding);
  const { weights, heads, sides, residualMix, signal } = resolved;
  const checkpoint = await openCheckpoint(from ?? bundledModelPath(), { weights, heads, sides, residualMix });
  const fingerprint = await tokenizerFingerprint(checkpoint);
  const device = await chooseDevice(resolved, checkpoint.tensors);
  throwIfAborted(signal);
  const { config } = checkpoint;
  const architecture = toArchitecture(config);
  const kvDtype = resolved.kvPool.dtype ?? device.cuda?.dtype ?? "f32";
  const strategy = resolved.strategy ?? checkpoint.strategy ?? "even";
  const spec: NativeModelSpec = {
    files: checkpoint.files,
    stamps: checkpoint.stamps,
    tensors: checkpoint.tensors,
    config,
    threads: resolved.threads,
    kvBytes:
      resolved.kvPool.bytes ??
      defaultKvBytes(architecture, kvDtype, device.freeBytes ?? freeBeside(checkpoint.tensors)),
    kvDtype,
    strategy,
    cuda: device.cuda,
  };
  const native = await openOrAbort(() => addon.openModel(spec, progressOf(resolved)), signal);
  return new Model({
    native,
    architecture,
    classNames: checkpoint.labels ?? [],
    device: device.name,
    deviceReason: device.reason,
    threads: resolved.threads,
    strategy,
    bridge: checkpoint.bridge ?? 0,
    trainedDepths: checkpoint.depths ?? [config.depth],
    recommended: checkpoint.recommended ?? {},
    tokenizerFingerprint: fingerprint,
    warnings: checkpoint.warnings,
    previewMatrix: checkpoint.previewMatrix ?? null,
    onEvent: resolved.onEvent,
  });
}

/**
 * Opens the tokenizer of a model, or a tokenizer that has no transformer: for encoding and decoding alone, in the
 * memory that these take.
 *
 * @throws what {@link loadModel} throws, and InvalidOptionError for a tokenizer alone without `sides`
 */
export async function loadTokenizer(source?: TokenizerSource, options?: TokenizerOptions): Promise<Tokenizer> {
  const from = checkTokenizerSource(source);
  const resolved = resolveTokenizerOptions(options);
  throwIfAborted(resolved.signal);
  const addon = loadBinding(resolved.nativeBinding);
  const { weights, sides, residualMix, signal, threads } = resolved;
  const opened = await openTokenizer(from ?? bundledModelPath(), { weights, sides, residualMix, signal });
  const fingerprint = await tokenizerFingerprint(opened);
  const { files, stamps, tensors, config, warnings } = opened;
  const { cuda }: ChosenDevice = await chooseDevice(resolved, tensors);
  throwIfAborted(signal);
  const native = await openOrAbort(
    () => addon.openTokenizer({ files, stamps, tensors, config, threads, cuda }),
    signal,
  );
  progressOf(resolved)(1);
  const architecture = toTokenizerArchitecture(config);
  return new Tokenizer({ native, architecture, fingerprint, threads, warnings });
}

/** What is free once the weights are in memory, which the core keeps in f32. */
function freeBeside(tensors: readonly TensorEntry[]): number {
  const weights = tensors.reduce((sum, { shape }) => sum + 4 * shape.reduce((product, side) => product * side, 1), 0);
  return Math.max(0, machineMemory().availableBytes - weights);
}

/**
 * A quarter of the free memory, but no less than one image at full depth with guidance, no more than 64, and never more
 * than is free: a pool that the container cannot hold ends in SIGKILL, not in an error.
 */
export function defaultKvBytes(
  { depth, width, numTokens: tokens }: Architecture,
  dtype: DType,
  free = machineMemory().availableBytes,
): number {
  const oneImage = 2 * depth * tokens * 2 * width * (dtype === "f32" ? 4 : 2); // cond and uncond; keys and values
  return Math.max(1, Math.min(Math.max(Math.floor(free / 4), oneImage), 64 * oneImage, Math.floor(free)));
}

/** The caller's listener, or none; it runs after the core has gone on. */
function progressOf({ onProgress }: ResolvedLoadOptions): (fraction: number) => void {
  if (onProgress === undefined) return () => undefined;
  const tell = listener("onProgress", onProgress);
  return (fraction) => queueMicrotask(() => tell(fraction));
}

/**
 * The core cannot stop in the middle of packing: the caller is let go at once, and what was opened is freed when it
 * arrives. The addon may also fail at once: without threads or memory for the job itself.
 */
async function openOrAbort<Opened extends { dispose(): Promise<void> }>(
  open: () => Promise<Opened>,
  signal: AbortSignal | undefined,
): Promise<Opened> {
  const opening = (async () => open())();
  let unlisten = () => {};
  const aborted = new Promise<never>((_, reject) => {
    unlisten = onAbort(signal, () => reject(abortError(signal)));
  });
  try {
    return await Promise.race([opening, aborted]);
  } catch (error) {
    opening.then(
      (native) => native.dispose(),
      () => undefined, // the caller has an error already
    );
    throw wrapNative(error);
  } finally {
    unlisten();
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

function abortError(signal: AbortSignal | undefined): AbortError {
  return new AbortError("loading was cancelled", { cause: signal?.reason });
}
