/** A tokenizer without its transformer: out of a whole model, or out of a file of its own. */

import { InvalidCheckpointError, InvalidOptionError } from "../errors.js";
import type { NativeTokenizerConfig } from "../native/contract.js";
import type { CheckpointSource, OpenOptions } from "../options/checkpoint.js";
import { type CheckpointInfo, inspectCheckpoint } from "./open.js";

export interface TokenizerCheckpoint extends Pick<CheckpointInfo, "files" | "stamps" | "tensors" | "warnings"> {
  config: NativeTokenizerConfig;
}

/**
 * Like openCheckpoint, for the tokenizer alone. A file that holds nothing else does not say into which scales it cuts
 * an image: then `options.sides` must.
 *
 * @throws InvalidCheckpointError, UnsafeCheckpointError, IoError, InvalidOptionError, AbortError
 */
export async function openTokenizer(source: CheckpointSource, options: OpenOptions = {}): Promise<TokenizerCheckpoint> {
  const info = await inspectCheckpoint(source, options);
  const { files, stamps, tokenizer, warnings } = info;
  if (tokenizer === null) throw new InvalidCheckpointError(`${files.join(", ")}: holds a transformer but no tokenizer`);
  const { codebookSize, codeDim, residualConvs, channels, multipliers, numResBlocks } = tokenizer;
  const sides = info.config?.sides ?? givenSides(info, options);
  const perScale = residualConvs.sharing === "per-scale";
  if (perScale && residualConvs.count !== sides.length) {
    const expected = `${residualConvs.count} sides: the tokenizer has a residual convolution for each`;
    throw new InvalidOptionError("sides", `${sides.length} sides`, expected);
  }
  const residualMix = info.config?.residualMix ?? (residualConvs.sharing === "none" ? 0 : (options.residualMix ?? 0.5));
  const config: NativeTokenizerConfig = {
    codebookSize,
    codeDim,
    numResidualConvs: perScale ? 0 : Math.max(1, residualConvs.count),
    residualMix,
    channels,
    multipliers,
    numResBlocks,
    sides,
  };
  return { files, stamps, warnings, tensors: info.tensors.filter(({ name }) => name.startsWith("vae.")), config };
}

function givenSides({ files, trainedScales }: CheckpointInfo, { sides }: OpenOptions): number[] {
  const path = files.join(", ");
  if (sides === undefined) {
    const count = trainedScales === null ? "" : `, ${trainedScales} of them`;
    throw new InvalidOptionError(
      "sides",
      "none",
      `the sides of the scales${count}: ${path} is a tokenizer alone and does not tell them`,
    );
  }
  if (trainedScales !== null && sides.length !== trainedScales) {
    throw new InvalidOptionError("sides", `${sides.length} sides`, `${trainedScales}, with which ${path} was trained`);
  }
  return [...sides];
}
