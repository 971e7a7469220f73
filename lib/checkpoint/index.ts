/** Checkpoints: files of others become a table of tensors and an architecture. Nothing from a file is ever executed. */

export type { TokenizerShape, TransformerShape } from "./architecture.js";
export { type ConvertOptions, type ConvertResult, convertCheckpoint } from "./convert.js";
export type { FileFormat } from "./detect.js";
export type { ModelNotes, RecommendedSettings } from "./metadata.js";
export {
  type Checkpoint,
  type CheckpointInfo,
  type CheckpointSource,
  inspectCheckpoint,
  type OpenOptions,
  openCheckpoint,
} from "./open.js";
