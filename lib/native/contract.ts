/**
 * What the native addon exports: the only description of the boundary. `test/meta/contract.test.ts` compares it with
 * the real exports. TypeScript explains what is wrong with an option (lib/options); the core trusts nobody and checks
 * all it works with.
 *
 * Typed arrays are allocated here and filled by the core; no external buffer ever crosses the boundary (Electron
 * forbids them).
 */

export type DType = "f32" | "f16" | "bf16";

/** One tensor of a checkpoint, in `files[file]`. */
export interface TensorEntry {
  name: string; // reference name with the prefix "var." or "vae."
  dtype: DType;
  shape: number[];
  strides?: number[]; // elements, one per dimension; without them it is row-major without gaps
  file: number;
  offset: number; // bytes from the start of the file; any alignment
}

/** What a file was when its header was read. */
export interface FileStamp {
  path: string;
  bytes: number;
  /** Time of its last change, in two integers: a number cannot hold nanoseconds since 1970. */
  seconds: number;
  nanoseconds: number;
}

export interface NativeTokenizerConfig {
  codebookSize: number;
  codeDim: number;
  numResidualConvs: number; // 0 = one per scale
  residualMix: number;
  channels: number;
  multipliers: number[];
  numResBlocks: number;
  sides: number[];
}

export interface NativeConfig extends NativeTokenizerConfig {
  depth: number;
  width: number;
  numHeads: number;
  mlpWidth: number;
  numClasses: number;
  sharedAda: boolean;
  l2Norm: boolean;
}

export interface NativeTokenizerSpec {
  files: string[];
  /** One per file: the core refuses a file that is not what its stamp says. */
  stamps?: FileStamp[];
  tensors: TensorEntry[]; // those with the prefix "vae." count
  config: NativeTokenizerConfig;
  threads: number; // >= 1
  cuda: NativeCudaSpec | null; // null: the CPU
}

export interface NativeModelSpec extends NativeTokenizerSpec {
  config: NativeConfig;
  kvBytes: number; // budget of the KV pool
  kvDtype: DType;
  strategy: "even" | "nested"; // choice of a subnet's blocks
}

/** A CUDA device to run on. */
export interface NativeCudaSpec {
  library: string; // path of the library of kernels
  index: number;
  dtype: DType; // of weights and activations
}

/** A CUDA device that the driver knows. */
export interface NativeCudaDevice {
  index: number;
  name: string;
  capability: string; // "9.0"
  multiprocessors: number;
  totalBytes: number;
  freeBytes: number;
  driver: string; // the CUDA release that the driver supports: "13.0"
  runtime: string; // the one that the library was built with
  problem: string | null; // why it cannot be used
}

export interface NativeRequest {
  numMixed: number; // classes that are mixed for each image, 1..8
  labels: Int32Array; // [images, numMixed]; numClasses = unconditional
  weights: Float32Array | null; // [images, numMixed], of their embeddings; null: numMixed is 1
  seed: bigint; // 0 .. 2^64-1
  firstImage: number; // counter of the first image's random numbers
  guidance: Float32Array; // t per scale
  topK: number; // 0 = off
  topP: number; // 0 = off
  depths: Int32Array; // per scale
  deadlineMs: number; // 0 = none; else `depths` is the ceiling and the engine may go lower at each scale
  deadlineDepths: Int32Array; // depths that a deadline may choose from, ascending
  keepDroppedCache: boolean;
  wait: boolean; // wait for room in the pool, in order of arrival, or fail at once
  preview: "none" | "linear" | "decode";
  givenTokens: Int32Array | null; // [images, numTokens]: the token, or -1 for one that is to be drawn; null: all are
  losses: boolean; // with all tokens given: scale events carry the cross entropy of each
  capture: boolean; // scale events carry logits, fHat, nextInput and hidden states
}

export interface NativeScaleEvent {
  type: "scale";
  index: number;
  side: number;
  depth: number;
  reason: "plan" | "set" | "deadline" | "late"; // why this depth
  elapsedMs: number; // since the generation started to run
  scaleMs: number; // of the steps in which this scale had rows; the rest of elapsedMs was waiting
  tokens: Int32Array; // [labels, side²]
  losses: Float32Array | null; // [labels, side²]: -ln p(given token), nats, without guidance
  preview: Uint8ClampedArray | null; // [labels, previewSide, previewSide, 3]
  previewSide: number;
  logits: Float32Array | null; // [labels, side², V] after guidance
  fHat: Float32Array | null; // [labels, E, P, P]
  nextInput: Float32Array | null; // [labels, nextSide², E]
  // [1 + active blocks, sequences, side², C]: input of the first block, then each block's output. Sequences: cond of
  // all images, then uncond.
  hidden: Float32Array | null;
}

/** Ends every generation, exactly once, as the last event. `code` is null when it finished. */
export interface NativeEndEvent {
  type: "end";
  code: string | null;
  message: string;
  /** POOL_EXHAUSTED only. */
  neededBytes: number;
  availableBytes: number;
  deepestFit: number; // deepest uniform flexible depth that would fit, 0 = none
}

export interface NativePoolStats {
  capacityBytes: number;
  usedBytes: number;
  peakBytes: number;
  reservedBytes: number; // promised to running generations
  generations: { id: number; usedBytes: number; reservedBytes: number }[];
}

export interface NativeStats {
  pool: NativePoolStats;
  running: number;
  waiting: number;
  steps: number; // scale steps of batches
  tokens: number; // tokens drawn since the model was opened
  busyMs: number; // time the engine spent computing
  maxBatchRows: number;
  jobs: number; // encoding and decoding that has not ended
  jobParts: number; // pictures that such jobs have begun since the model was opened
  /** Milliseconds per scale and depth, exponentially averaged; rows of [scale, depth, rows, ms]. */
  scaleTimes: Float64Array;
}

export interface NativeGeneration {
  readonly id: number;
  /** Depth from the next scale on (all later scales). Throws POOL_EXHAUSTED when a raise does not fit. */
  setDepth(depth: number): void;
  cancel(): void;
  /**
   * Decodes the image as it stands (fHat so far): Uint8ClampedArray [labels, S, S, 3], or Float32Array [labels, 3, S,
   * S] in [0,1].
   */
  decode(out: Uint8ClampedArray | Float32Array): NativeJob;
}

/** Encoding or decoding under way. */
export interface NativeJob {
  readonly done: Promise<void>;
  /** Stops within one picture and one layer; `done` then rejects with ABORTED, unless it was too late. */
  cancel(): void;
}

/** A tokenizer: one alone, or a model's. */
export interface NativeTokenizer {
  /** tokens [count, numTokens] -> out as in NativeGeneration.decode. */
  decode(tokens: Int32Array, out: Uint8ClampedArray | Float32Array): NativeJob;
  /** tokens [count, numTokens] -> what the decoder reads for them, [count, E, P, P]. */
  featureMap(tokens: Int32Array, fHats: Float32Array): NativeJob;
  /** pixels [count, 3, S, S] in [-1, 1] -> tokens [count, numTokens]. */
  encode(pixels: Float32Array, tokens: Int32Array): NativeJob;
  /** f and the running sums of an encoding, for tests: f [E,P,P], fHats [numScales, E, P, P], for one image. */
  encodeTrace(pixels: Float32Array, f: Float32Array, fHats: Float32Array): NativeJob;
  /** Cancels what runs, waits for it, frees everything. Idempotent. Throws for a model's: that goes with the model. */
  dispose(): Promise<void>;
}

export interface NativeModel {
  generate(request: NativeRequest, onEvent: (event: NativeScaleEvent | NativeEndEvent) => void): NativeGeneration;
  /** Works between the steps of the generations. */
  readonly tokenizer: NativeTokenizer;
  setPreviewMatrix(matrix: Float32Array): void; // [3, E+1]: RGB in [0,1] = M · (fHat, 1)
  stats(): NativeStats;
  /** Bytes of the KV pool that a generation needs at its peak: exact. */
  peakBytes(depths: Int32Array, sequences: number): number;
  /** Aborts what runs, waits for it, frees everything. Idempotent. */
  dispose(): Promise<void>;
}

export interface NativeCpuInfo {
  target: string; // the instruction set chosen: "AVX3", "AVX2", "SSE4", "NEON", ...
  supported: string[];
}

/** What a trainer is opened with. Memory for all of it is taken once, at opening; `memoryBytes` says how much. */
export interface NativeTrainerSpec {
  files: string[];
  stamps?: FileStamp[]; // as in NativeTokenizerSpec
  /**
   * The tokenizer's codebook and residual convolutions ("vae.quantize.*"), and the transformer ("var.*") unless
   * `initialSeed` is given.
   */
  tensors: TensorEntry[];
  config: NativeConfig;
  strategy: "even" | "nested";
  threads: number; // >= 1
  initialSeed: bigint | null; // draw the transformer at random as the reference initialises it
  microBatch: number; // images of one pass; a step's batch is cut into passes of at most this many
  checkpointing: boolean; // keep only each block's input and run its forward pass again on the way back
  average: boolean; // keep an exponential average of the weights
}

export interface NativeTrainStep {
  tokens: Int32Array; // [count, numTokens]
  labels: Int32Array; // [count]; numClasses = unconditional (label dropout is the caller's)
  depths: Int32Array; // per scale
  labelSmoothing: number;
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number; // not on biases, one-dimensional parameters and embeddings, as the reference groups them
  decayAll: boolean; // decay every parameter alike
  clipNorm: number; // of the whole gradient; 0 = off
  averageDecay: number; // of the exponential average
  /** false: the gradients are computed and kept for `read`, nothing else changes. */
  update: boolean;
}

export interface NativeStepResult {
  loss: number; // mean over all tokens of the step, nats (with labelSmoothing: of the smoothed targets)
  lossPerScale: Float64Array; // mean over the tokens of each scale
  gradientNorm: number; // before clipping
  ms: number;
}

/** What a trainer holds per parameter. "mean" and "variance" are the optimizer's moments. */
export type TrainerArray = "weights" | "gradient" | "mean" | "variance" | "average";

export interface NativeParameter {
  name: string; // reference name without prefix: "blocks.0.attn.proj.weight"
  shape: number[];
  decay: boolean;
}

/** One call at a time: a call while another is in flight throws. */
export interface NativeTrainer {
  readonly parameters: NativeParameter[];
  readonly memoryBytes: number;
  /**
   * One optimizer step. Rejects with NOT_FINITE, naming the first parameter or scale at fault, when the loss or a
   * gradient is NaN or infinite: the weights are then what they were before.
   */
  step(step: NativeTrainStep): Promise<NativeStepResult>;
  /** Teacher-forced cross entropy of every token, [count, numTokens], with the weights or their average. */
  evaluate(
    tokens: Int32Array,
    labels: Int32Array,
    depths: Int32Array,
    average: boolean,
    losses: Float32Array,
  ): Promise<void>;
  /** Logits [count, numTokens, V], for tests. */
  logits(tokens: Int32Array, labels: Int32Array, depths: Int32Array, logits: Float32Array): Promise<void>;
  read(array: TrainerArray, name: string, out: Float32Array): void;
  write(array: TrainerArray, name: string, values: Float32Array): void;
  /** Updates done: the t of the optimizer's bias correction. */
  steps: number;
  /** Waits for what runs, frees everything. Idempotent. */
  dispose(): Promise<void>;
}

/**
 * Memory that a trainer of this spec will take, in bytes, without opening it. Reads config, microBatch, checkpointing,
 * average, threads.
 */
export type NativeTrainerMemory = Pick<
  NativeTrainerSpec,
  "config" | "threads" | "microBatch" | "checkpointing" | "average"
>;

export interface NativeAddon {
  version: string;
  cpuInfo(): NativeCpuInfo;
  /**
   * Opens every device and lets it compute a little: seconds, and not safe against a broken driver
   * (lib/native/cuda.ts).
   */
  probeCuda(library: string): NativeCudaDevice[];
  /**
   * Reads, checks and packs the weights on a thread of its own; nothing depends on the files afterwards. Rejects with
   * IO when a file is not what its stamp says, or changes meanwhile. `onProgress` gets 0..1.
   */
  openModel(spec: NativeModelSpec, onProgress: (fraction: number) => void): Promise<NativeModel>;
  openTokenizer(spec: NativeTokenizerSpec): Promise<NativeTokenizer>;
  openTrainer(spec: NativeTrainerSpec): Promise<NativeTrainer>;
  trainerBytes(spec: NativeTrainerMemory): number;
  /** Blocks of the subnet of a depth. */
  subnetBlocks(fullDepth: number, depth: number, strategy: "even" | "nested"): Int32Array;
  /** The reference's filter: probabilities of one row, for tests. */
  filterProbabilities(logits: Float32Array, topK: number, topP: number): Float32Array;
}
