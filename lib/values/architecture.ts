/** The shape of a model, as plain numbers, and how it is cut into subnets. */

import type { NativeConfig, NativeTokenizerConfig } from "../native/contract.js";

/** The part of a model's shape that a tokenizer has. */
export interface TokenizerArchitecture {
  /** Codebook size (V). */
  codebookSize: number;
  /** Width of a code vector (E). */
  codeDim: number;
  /** Residual convolutions; 0 = one per scale. */
  numResidualConvs: number;
  residualMix: number;
  /** Base channels and channel multipliers of the tokenizer. */
  channels: number;
  multipliers: number[];
  numResBlocks: number;
  /** Sides of the scales, ascending. */
  sides: number[];
  numScales: number;
  /** Tokens of one image, all scales together. */
  numTokens: number;
  /** Pixels per row and column of an image. */
  imageSide: number;
}

/** A checkpoint's shape, inferred from names and shapes of its tensors. */
export interface Architecture extends TokenizerArchitecture {
  /** Blocks of the full network (D). */
  depth: number;
  /** Channels (C). */
  width: number;
  /** Attention heads (H). */
  heads: number;
  mlpWidth: number;
  numClasses: number;
  sharedAda: boolean;
  l2Norm: boolean;
}

/** How the blocks of a subnet are chosen: evenly spaced (the paper), or each smaller set out of the next larger one. */
export type Strategy = "even" | "nested";

/** Tokens of one image: the sum of the squared sides. */
export function numTokens(sides: readonly number[]): number {
  return sides.reduce((total, side) => total + side * side, 0);
}

/** The public description of a tokenizer's shape. */
export function toTokenizerArchitecture(config: NativeTokenizerConfig): TokenizerArchitecture {
  const { codebookSize, codeDim, numResidualConvs, residualMix, channels, multipliers, numResBlocks, sides } = config;
  return {
    codebookSize,
    codeDim,
    numResidualConvs,
    residualMix,
    channels,
    multipliers,
    numResBlocks,
    sides,
    numScales: sides.length,
    numTokens: numTokens(sides),
    imageSide: sides.at(-1)! * 2 ** (multipliers.length - 1),
  };
}

/** The public description of a checkpoint's shape. */
export function toArchitecture(config: NativeConfig): Architecture {
  const { depth, width, numHeads: heads, mlpWidth, numClasses, sharedAda, l2Norm } = config;
  return { depth, width, heads, mlpWidth, numClasses, sharedAda, l2Norm, ...toTokenizerArchitecture(config) };
}
