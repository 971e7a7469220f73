/** Public names, no logic. */

export type { FileFormat } from "./checkpoint/detect.js";
export type { TokenizerShape, TransformerShape } from "./checkpoint/expected.js";
export {
  type Checkpoint,
  type CheckpointInfo,
  type ConvertResult,
  convertCheckpoint,
  inspectCheckpoint,
  openCheckpoint,
  type WeightsSet,
} from "./checkpoint/index.js";
export {
  epochOrder,
  type PictureSettings,
  type SkippedFile,
  type TokenEncoder,
  type TokenizeOptions,
  type TokenizeResult,
  TokenSet,
  type TokenSetOptions,
  tokenizeImages,
} from "./data/index.js";
export {
  AbortError,
  DeviceLostError,
  DeviceUnavailableError,
  DisposedError,
  ERROR_CODES,
  type ErrorCode,
  InternalError,
  InvalidCheckpointError,
  InvalidOptionError,
  InvalidTokensError,
  IoError,
  NextscaleError,
  NoBinaryError,
  NotFiniteError,
  OutOfMemoryError,
  PoolExhaustedError,
  TrainingDivergedError,
  UnsafeCheckpointError,
} from "./errors.js";
export {
  type BridgeLoss,
  type DepthLoss,
  type EvaluateOptions,
  type Evaluation,
  evaluateModel,
  type Loss,
  measureSensitivity,
  type RangeLoss,
  type Sensitivity,
  type SensitivityOptions,
  sensitivityPlot,
} from "./evaluate/index.js";
export { type EncodeOptions, type FromOptions, Image, type ImageFormat, type RawPixels } from "./image/image.js";
export type { ImageLike } from "./image/planes.js";
export type { ClassMap, ClassRule, Label, LabelMix } from "./labels/index.js";
export type { EditGeneration, Variant } from "./model/edit-generation.js";
export type { ModelEvent, ScaleEvent } from "./model/events.js";
export type { Generation } from "./model/generation.js";
export { loadModel, loadTokenizer } from "./model/load.js";
export type { Model } from "./model/model.js";
export type { Score } from "./model/score.js";
export type { ModelStats, PoolStats, ScaleTime } from "./model/stats.js";
export type { JobOptions, Tokenizer } from "./model/tokenizer.js";
export { type BindingInfo, bundledModelPath, describeBinding } from "./native/binding.js";
export type { DType, NativeConfig, TensorEntry } from "./native/contract.js";
export type { CheckpointSource, ConvertOptions, ModelNotes, OpenOptions } from "./options/checkpoint.js";
export { type DeadlinePlan, type DepthOption, type DepthPlan, formatDepths, type ZonePlan } from "./options/depth.js";
export type { EditOptions, Margins, PictureInput, Rect } from "./options/edit.js";
export type { EvaluateProgress, EvaluateSettings, ScoringSettings, SensitivitySettings } from "./options/evaluate.js";
export type { GenerateOptions, Preview, ScoreOptions } from "./options/generate.js";
export type {
  Device,
  KvPoolOptions,
  LoadOptions,
  ModelSource,
  TokenizerOptions,
  TokenizerSource,
} from "./options/load.js";
export type {
  InitialModel,
  LearningRate,
  OptimizerOptions,
  Phases,
  Ratio,
  TrainBase,
  TrainBaseSource,
} from "./options/recipe.js";
export type { SampleProgress, SampleSettings, SampleShard } from "./options/sample.js";
export type { Crop, Fit, TokenizeProgress, TokenizeSettings } from "./options/tokenize.js";
export type { TrainOptions } from "./options/train.js";
export { type SampleOptions, type SampleResult, sampleModel } from "./sample/index.js";
export {
  type EvaluationMetrics,
  type ExportOptions,
  type ExportResult,
  exportRun,
  type MemoryFigures,
  type PlannedTraining,
  planTraining,
  type Recipe,
  type StepMetrics,
  type TrainEvent,
  type TrainPlan,
  type TrainResult,
  trainSupernet,
} from "./train/index.js";
export type { Architecture, Strategy, TokenizerArchitecture } from "./values/architecture.js";
export type { TokenBatch, TokenSource } from "./values/token-source.js";
export type { TokenMap } from "./values/tokens.js";
export { TokenMaps } from "./values/tokens.js";
