/** Public types: what callers hand in and what they get back. Validation lives in lib/options. */

import type { Label } from "../labels/index.js";
import type { DType } from "../native/contract.js";
import type { Strategy } from "../values/architecture.js";
import type { TokenMaps } from "../values/tokens.js";
import type { ModelEvent } from "./events.js";

export type { DType };

/** Where a model comes from: one safetensors file, a pair of PyTorch files, or the bundled digits model. */
export type ModelSource = string | { var: string; tokenizer: string };

/** A device that may be asked for. `"auto"` takes the best one that works, and {@link Model.deviceReason} says why. */
export type Device = "auto" | "cpu" | "cuda" | `cuda:${number}`;

/** What each scale event shows: nothing, a linear map of the feature map, or the real decoder (slow on a CPU). */
export type Preview = "none" | "linear" | "decode";

/** The memory that holds every running generation's keys and values. */
export interface KvPoolOptions {
  /** Budget in bytes. Default: a quarter of the free memory (of the device), but room for at least one and at most 64 images at full depth. */
  bytes?: number;
  /** Storage format of keys and values. Default `"f32"` on the CPU, the model's `dtype` on CUDA. */
  dtype?: DType;
}

/** Options of {@link loadModel}. */
export interface LoadOptions {
  /** Default: the environment's `NEXTSCALE_DEVICE`, else `"auto"`. */
  device?: Device;
  /**
   * Number format of weights and activations on a CUDA device; sums are f32. Default `"auto"`: that of the file's matrices,
   * bf16 for a file in f32. `"f32"` is slow there: for checking. On the CPU only `"auto"` and `"f32"` are possible.
   */
  dtype?: "auto" | DType;
  /** Worker threads of this model, 1 or more. Default: `os.availableParallelism()`. */
  threads?: number;
  kvPool?: KvPoolOptions;
  /** Choice of a subnet's blocks. Default: what the checkpoint was trained with, else `"even"`. */
  strategy?: Strategy;
  /** Attention heads; needed only for a checkpoint without L2-norm attention that breaks the reference's rule (width / 64). */
  heads?: number;
  /** Sides of the scales, ascending; only when they cannot be inferred. */
  sides?: number[];
  /** Share of the residual convolution, 0..1. Default: the checkpoint's, else 0.5. */
  residualMix?: number;
  /** Path of a native binary to load instead of the packaged one (bundlers, Electron). */
  nativeBinding?: string;
  /** Called with 0..1 while the weights are mapped, checked and packed. */
  onProgress?: (fraction: number) => void;
  /**
   * Told what every generation of this model does, as it happens ({@link ModelEvent}): for logs and metrics. Called
   * synchronously; what it throws is dropped, after one warning.
   */
  onEvent?: (event: ModelEvent) => void;
  /** Cancels the loading: the promise rejects with an AbortError. */
  signal?: AbortSignal;
}

/** Where a tokenizer comes from: a file that holds one (alone or with a transformer), a pair, or the bundled model. */
export type TokenizerSource = string | { tokenizer: string; var?: string };

/** Options of {@link loadTokenizer}. */
export interface TokenizerOptions
  extends Pick<
    LoadOptions,
    "device" | "dtype" | "threads" | "residualMix" | "nativeBinding" | "onProgress" | "signal"
  > {
  /** Sides of the scales, ascending; needed for a file that holds a tokenizer alone, which does not tell them. */
  sides?: number[];
}

/** Depth by zones: full depth (or `bridgeDepth`) for the first scales, a subnet for the rest. */
export interface ZonePlan {
  /** Number of leading scales at full depth, 0..numScales. Default: the checkpoint's, else 0. */
  bridge?: number;
  /** Depth of the remaining scales, 2..D. */
  subnet: number;
}

/** Depth by deadline: at each scale the deepest depth that still meets it. */
export interface DeadlinePlan {
  /** Milliseconds from the start of the generation to its last token map (decoding comes on top). */
  deadlineMs: number;
  /** Leading scales that run at full depth while the deadline allows it. Default: the checkpoint's, else 0. */
  bridge?: number;
  /** Depths to choose from. Default: those the checkpoint was trained for, else powers of two and D. */
  depths?: number[];
}

/**
 * How deep each scale runs.
 * - a number `d`: depth `d` at every scale after the checkpoint's bridge (which is 0 when the checkpoint names none);
 * - a list: one depth per scale;
 * - zones, or a deadline.
 */
export type DepthOption = number | number[] | ZonePlan | DeadlinePlan;

/** Options of {@link Model.generate}. */
export interface GenerateOptions {
  /** One image per label. Default: `"unconditional"`. */
  labels?: Label | Label[];
  /** 0 .. 2^64-1. Default: drawn at random and reported as `generation.seed`. */
  seed?: number | bigint;
  /** Guidance of the last scale, ramped up linearly from 0 at the first one; or one value per scale. Default: the checkpoint's, else 1.5. */
  guidance?: number | number[];
  /** Draw from the K best tokens only; 0 = off, 1 = greedy. Default 900 (or the checkpoint's), at most V. */
  topK?: number;
  /** Nucleus: 0..1; 0 and 1 = off. Default 0.96 (or the checkpoint's). */
  topP?: number;
  /** Default: the model's ({@link Model.setDepth}), which is full depth. */
  depth?: DepthOption;
  /** Keep the cache of blocks that a lower depth drops, so that a later raise sees the full context. Default false. */
  keepDroppedCache?: boolean;
  /** When the KV pool is full: wait in order of arrival (default), or fail at once. */
  wait?: boolean;
  /** Default `"none"`. */
  preview?: Preview;
  /**
   * Number of the first image among those of the seed. An image is a function of the seed and its number: a second call with the
   * same seed and `firstImage: 8` goes on where 8 images ended. Default 0.
   */
  firstImage?: number;
  /** Cancels the generation: everything that waits for it rejects with an AbortError whose cause is the signal's reason. */
  signal?: AbortSignal;
}

/** Token maps and labels to score; see {@link Model.score}. */
export interface ScoreOptions {
  /** `[images, numTokens]`, or what {@link Model.encode} returned. */
  tokens: TokenMaps | Int32Array;
  /** One label per image. */
  labels: Label | Label[];
  /** Default: the model's. A deadline cannot be scored. */
  depth?: DepthOption;
  signal?: AbortSignal;
}
