/** Checkpoints: files of others become a table of tensors and an architecture. Nothing from a file is ever executed. */

export { type ConvertResult, convertCheckpoint } from "./convert.js";
export type { FileFormat } from "./detect.js";
export type { TokenizerShape, TransformerShape } from "./expected.js";
export { tokenizerFingerprint } from "./fingerprint.js";
export { type Checkpoint, type CheckpointInfo, inspectCheckpoint, openCheckpoint } from "./open.js";
export type { WeightsSet } from "./state-dict.js";
export { openTokenizer } from "./tokenizer.js";
