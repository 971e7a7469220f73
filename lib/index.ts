/** Public names, no logic. */

export {
  type Checkpoint,
  type CheckpointInfo,
  type CheckpointSource,
  type ConvertOptions,
  type ConvertResult,
  convertCheckpoint,
  inspectCheckpoint,
  type ModelNotes,
  type OpenOptions,
  openCheckpoint,
} from "./checkpoint/index.js";
export type { DepthPlan } from "./depth.js";
export { formatDepths } from "./depth.js";
export {
  AbortError,
  DeviceUnavailableError,
  DisposedError,
  ERROR_CODES,
  type ErrorCode,
  InternalError,
  InvalidCheckpointError,
  InvalidOptionError,
  IoError,
  NextscaleError,
  NoBinaryError,
  NotFiniteError,
  OutOfMemoryError,
  PoolExhaustedError,
  UnsafeCheckpointError,
} from "./errors.js";
export type { Generation } from "./generation.js";
export { type EncodeOptions, type FromOptions, Image, type ImageFormat, type RawPixels } from "./image.js";
export type { ImageLike } from "./image-types.js";
export { loadModel } from "./load.js";
export type { Model } from "./model.js";
export { type BindingInfo, bundledModelPath, describeBinding } from "./native/binding.js";
export { TokenMaps } from "./tokens.js";
export type {
  Architecture,
  DeadlinePlan,
  DepthOption,
  Device,
  DType,
  GenerateOptions,
  KvPoolOptions,
  Label,
  LoadOptions,
  ModelEvent,
  ModelSource,
  ModelStats,
  PoolStats,
  Preview,
  ScaleEvent,
  ScaleTime,
  Score,
  ScoreOptions,
  Strategy,
  TokenMap,
  ZonePlan,
} from "./types.js";
