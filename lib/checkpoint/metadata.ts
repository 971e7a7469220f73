/**
 * The block that nextscale keeps in `__metadata__.nextscale` of a safetensors file: JSON with a version. It holds what
 * tensors cannot tell (heads, sides, residual mix) and what a person wants to know (name, labels, recommended
 * settings).
 */

import { types } from "node:util";
import { InvalidCheckpointError } from "../errors.js";
import type { NativeConfig } from "../native/contract.js";
import type { ModelNotes } from "../options/checkpoint.js";
import { RECOMMENDED } from "../options/drawing.js";
import { accepts } from "../options/table.js";

export const METADATA_KEY = "nextscale";
const VERSION = 1;
const MAX_BYTES = 64 * 2 ** 20;

/** Notes and the architecture of a converted model. */
export interface MetadataBlock extends ModelNotes {
  architecture: NativeConfig;
}

/** The JSON text of a block. */
export function formatMetadata({ previewMatrix, ...block }: MetadataBlock): string {
  return JSON.stringify({
    version: VERSION,
    ...block,
    ...(previewMatrix !== undefined && { previewMatrix: [...previewMatrix] }),
  });
}

/** Reads what {@link formatMetadata} wrote; null when there is none. @throws InvalidCheckpointError */
export function parseMetadata(path: string, metadata: ReadonlyMap<string, string>): MetadataBlock | null {
  const text = metadata.get(METADATA_KEY);
  if (text === undefined) return null;
  if (text.length > MAX_BYTES) throw wrong(path, `it has ${text.length} characters`);
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw wrong(path, "it is not JSON", error);
  }
  if (!isRecord(raw)) throw wrong(path, "it is not an object");
  if (raw.version !== VERSION) {
    throw wrong(path, `its version is ${JSON.stringify(raw.version)}, this nextscale reads version ${VERSION}`);
  }
  const problem = checkNotes(raw as ModelNotes) ?? checkArchitecture(raw.architecture);
  if (problem !== null) throw wrong(path, problem);
  const { previewMatrix, version: _, ...rest } = raw;
  return {
    ...(rest as unknown as MetadataBlock),
    ...(previewMatrix !== undefined && { previewMatrix: Float32Array.from(previewMatrix as number[]) }),
  };
}

/** What is wrong with notes, or null. `numClasses` and `codeDim` are checked where they are known. */
export function checkNotes(notes: ModelNotes, shape?: { config: NativeConfig }): string | null {
  const { name, labels, strategy, bridge, depths, recommended, previewMatrix, metadata } = notes;
  const config = shape?.config;
  if (name !== undefined && typeof name !== "string") return "name is not a string";
  if (labels !== undefined) {
    if (!Array.isArray(labels) || !labels.every((label) => typeof label === "string"))
      return "labels is not a list of strings";
    if (config !== undefined && labels.length !== config.numClasses) {
      return `labels has ${labels.length} names, the model has ${config.numClasses} classes`;
    }
  }
  if (strategy !== undefined && strategy !== "even" && strategy !== "nested")
    return "strategy is neither even nor nested";
  if (bridge !== undefined && !isCount(bridge, config?.sides.length)) return "bridge is not a number of scales";
  if (depths !== undefined && !isDepths(depths, config?.depth)) return "depths is not an ascending list of depths";
  if (recommended !== undefined && !isRecommended(recommended)) return "recommended is not valid";
  if (previewMatrix !== undefined) {
    const expected = config === undefined ? null : 3 * (config.codeDim + 1);
    const values: unknown = previewMatrix;
    if (!isNumbers(values)) return "previewMatrix is not a list of finite numbers";
    if (expected !== null && values.length !== expected)
      return `previewMatrix has ${values.length} numbers, ${expected} were expected`;
  }
  if (metadata !== undefined && !isTexts(metadata)) return "metadata is not an object of strings";
  return null;
}

const COUNTS = [
  "depth",
  "width",
  "numHeads",
  "mlpWidth",
  "numClasses",
  "codebookSize",
  "codeDim",
  "channels",
  "numResBlocks",
] as const;

function checkArchitecture(value: unknown): string | null {
  if (!isRecord(value)) return "architecture is not an object";
  for (const key of COUNTS) if (!isCount(value[key]) || value[key] === 0) return `architecture.${key} is not a count`;
  if (!isCount(value.numResidualConvs)) return "architecture.numResidualConvs is not a count";
  for (const key of ["sharedAda", "l2Norm"])
    if (typeof value[key] !== "boolean") return `architecture.${key} is not a bool`;
  const mix = value.residualMix;
  if (typeof mix !== "number" || !(mix >= 0 && mix <= 1)) return "architecture.residualMix is not in 0..1";
  for (const key of ["multipliers", "sides"]) {
    const list = value[key];
    if (!Array.isArray(list) || !list.every((side) => isCount(side) && side > 0))
      return `architecture.${key} is not a list of counts`;
  }
  return null;
}

/** First difference of two architectures, or null. */
export function differenceOf(noted: NativeConfig, inferred: NativeConfig): string | null {
  for (const key of Object.keys(inferred) as (keyof NativeConfig)[]) {
    const [a, b] = [JSON.stringify(noted[key]), JSON.stringify(inferred[key])];
    if (a !== b) return `${key} is ${a} according to the metadata, ${b} according to the tensors`;
  }
  return null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown, most = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  const list = types.isFloat32Array(value) ? [...value] : value;
  return Array.isArray(list) && list.every((number) => Number.isFinite(number));
}

function isDepths(value: unknown, most?: number): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every((depth, index) => isCount(depth, most) && depth > (value[index - 1] ?? 0));
}

function isTexts(value: unknown): boolean {
  return isRecord(value) && Object.values(value).every((text) => typeof text === "string");
}

function isRecommended(value: unknown): boolean {
  if (!isRecord(value)) return false;
  return Object.entries(RECOMMENDED.rows).every(
    ([name, row]) => value[name] === undefined || accepts(row, value[name]),
  );
}

function wrong(path: string, found: string, cause?: unknown): InvalidCheckpointError {
  return new InvalidCheckpointError(`${path}: damaged metadata of nextscale: ${found}`, { cause });
}
