/** What a training starts from: the tensors that the trainer reads, and everything that the exported model inherits. */

import { createHash } from "node:crypto";
import { type TokenizerShape, type TransformerShape, transformerShapes } from "../checkpoint/expected.js";
import { type CheckpointInfo, inspectCheckpoint, openCheckpoint, tokenizerFingerprint } from "../checkpoint/index.js";
import { readTensor } from "../checkpoint/read-tensor.js";
import { withFiles } from "../checkpoint/source.js";
import { InvalidCheckpointError, InvalidOptionError } from "../errors.js";
import { bundledModelPath } from "../native/binding.js";
import type { FileStamp, NativeConfig, TensorEntry } from "../native/contract.js";
import type { ModelNotes, OpenOptions } from "../options/checkpoint.js";
import { type InitialModel, isInitial, type TrainBase } from "../options/recipe.js";
import { numTokens } from "../values/architecture.js";
import type { TokenSource } from "../values/token-source.js";

export interface Base {
  files: string[];
  /** What the files were when their headers were read. */
  stamps: FileStamp[];
  /** The whole tokenizer, and the transformer unless it is drawn at random. */
  tensors: TensorEntry[];
  config: NativeConfig;
  /** True: the transformer is drawn at random. */
  initial: boolean;
  /** Names and shapes of what is trained, without the prefix `var.`. */
  parameters: Map<string, number[]>;
  notes: ModelNotes;
  /** Of the tokenizer. */
  fingerprint: string;
  warnings: string[];
}

type BaseOptions = Partial<Pick<OpenOptions, "weights" | "heads" | "signal">>;

/** @throws InvalidCheckpointError, UnsafeCheckpointError, IoError, InvalidOptionError, AbortError */
export async function openBase(
  base: TrainBase,
  tokens: Pick<TokenSource, "sides" | "classes">,
  options: BaseOptions = {},
): Promise<Base> {
  return isInitial(base) ? openInitial(base, tokens, options) : openTrained(base, options);
}

async function openTrained(source: Exclude<TrainBase, InitialModel>, options: BaseOptions): Promise<Base> {
  const checkpoint = await openCheckpoint(source === "digits" ? bundledModelPath() : source, options);
  const { files, stamps, tensors, config, warnings } = checkpoint;
  return {
    files,
    stamps,
    tensors,
    config,
    initial: false,
    parameters: parameterShapes(config),
    notes: notesOf(checkpoint),
    fingerprint: await tokenizerFingerprint(checkpoint),
    warnings,
  };
}

async function openInitial(
  model: InitialModel,
  { sides, classes }: Pick<TokenSource, "sides" | "classes">,
  { weights, signal }: BaseOptions,
): Promise<Base> {
  const info = await inspectCheckpoint({ tokenizer: model.tokenizer }, { weights, signal });
  const { files, stamps, tokenizer, warnings } = info;
  if (tokenizer === null) throw new InvalidCheckpointError(`${model.tokenizer}: holds no tokenizer`);
  const config = initialConfig(model, tokenizer, [...sides], classes.length, await residualMixOf(model.tokenizer));
  return {
    files,
    stamps,
    tensors: info.tensors.filter(({ name }) => name.startsWith("vae.")),
    config,
    initial: true,
    parameters: parameterShapes(config),
    notes: info.previewMatrix === undefined ? {} : { previewMatrix: info.previewMatrix }, // the tokenizer's own
    fingerprint: await tokenizerFingerprint(info),
    warnings,
  };
}

/** A file that holds a whole model may tell the tokenizer's `quant_resi`; otherwise it is the reference's. */
async function residualMixOf(path: string): Promise<number> {
  const { config } = await inspectCheckpoint(path).catch(() => ({ config: null }));
  return config?.residualMix ?? 0.5;
}

function initialConfig(
  model: InitialModel,
  tokenizer: TokenizerShape,
  sides: number[],
  numClasses: number,
  residualMix: number,
): NativeConfig {
  const { depth, width = 64 * depth } = model;
  const heads = model.heads ?? (width % 64 === 0 ? width / 64 : null);
  if (heads === null || width % heads !== 0) {
    throw new InvalidOptionError("base.heads", String(model.heads ?? "none"), `a divisor of the width ${width}`);
  }
  const { codebookSize, codeDim, residualConvs, channels, multipliers, numResBlocks } = tokenizer;
  if (residualConvs.sharing === "per-scale" && residualConvs.count !== sides.length) {
    const found = `${residualConvs.count} residual convolutions`;
    throw new InvalidOptionError("base.tokenizer", found, `${sides.length}, one for each scale of the tokens`);
  }
  return {
    depth,
    width,
    numHeads: heads,
    mlpWidth: model.mlpWidth ?? 4 * width,
    numClasses,
    sharedAda: model.sharedAda ?? false,
    l2Norm: model.l2Norm ?? true,
    codebookSize,
    codeDim,
    numResidualConvs: residualConvs.sharing === "per-scale" ? 0 : Math.max(1, residualConvs.count),
    residualMix: residualConvs.sharing === "none" ? 0 : residualMix,
    channels,
    multipliers,
    numResBlocks,
    sides,
  };
}

/** Names and shapes of a transformer's weights. */
export function parameterShapes(config: NativeConfig): Map<string, number[]> {
  const shape: TransformerShape = {
    ...config,
    numHeads: config.l2Norm ? config.numHeads : null,
    numScales: config.sides.length,
    numTokens: numTokens(config.sides),
    firstTokens: config.sides[0]! ** 2,
  };
  return transformerShapes(shape);
}

function notesOf(info: CheckpointInfo): ModelNotes {
  const { name, labels, strategy, bridge, depths, recommended, previewMatrix, metadata } = info;
  return {
    ...(name !== undefined && { name }),
    ...(labels !== undefined && { labels }),
    ...(strategy !== undefined && { strategy }),
    ...(bridge !== undefined && { bridge }),
    ...(depths !== undefined && { depths }),
    ...(recommended !== undefined && { recommended }),
    ...(previewMatrix !== undefined && { previewMatrix }),
    ...(metadata !== undefined && { metadata }),
  };
}

const CHUNK = 2 ** 20;

/** SHA-256 over names, formats and bytes of the transformer: a resumed run must have begun with the same. */
export async function weightsHash(
  { files, stamps, tensors, initial, config }: Base,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(config));
  if (initial) return hash.digest("hex");
  const wanted = tensors.filter(({ name }) => name.startsWith("var.")).sort((a, b) => (a.name < b.name ? -1 : 1));
  const bytes = new Uint8Array(CHUNK);
  await withFiles(
    files,
    async (sources) => {
      for (const tensor of wanted) {
        hash.update(`${tensor.name} ${tensor.dtype}\n`);
        for await (const part of readTensor(sources[tensor.file]!, tensor, tensor.dtype === "f32" ? 4 : 2, bytes)) {
          signal?.throwIfAborted();
          hash.update(part);
        }
      }
    },
    stamps,
  );
  return hash.digest("hex");
}
