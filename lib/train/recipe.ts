/** What decides a run, as plain data: what it starts from, its curriculum, and the recipe that run.json holds and that is hashed. */

import type { ClassMap } from "../labels/index.js";
import type { NativeConfig } from "../native/contract.js";
import type { Strategy } from "../values/architecture.js";

/** A transformer to draw at random, as the reference initialises it. */
export interface InitialModel {
  /** File with the tokenizer. */
  tokenizer: string;
  /** Blocks of the full network. */
  depth: number;
  /** Channels. Default: 64 per block, as in the reference. */
  width?: number;
  /** Attention heads. Default: 64 channels each, where the width allows it. */
  heads?: number;
  /** Channels inside the feed-forward layers. Default: four times the width. */
  mlpWidth?: number;
  /** One AdaLN for all blocks. Default false. */
  sharedAda?: boolean;
  /** L2-normalised attention. Default true. */
  l2Norm?: boolean;
}

/** What the training starts from: a whole model (or `"digits"`), a pair, or a tokenizer and the shape of a transformer. */
export type TrainBase = string | { var: string; tokenizer: string } | InitialModel;

/** True for a transformer that is to be drawn at random. */
export function isInitial(base: TrainBase): base is InitialModel {
  return typeof base === "object" && "depth" in base;
}

/** Lengths of the three phases, in epochs (or any other unit: only their shares count when the number of steps is given). */
export interface Phases {
  /** Mostly the full network: the share of subnet steps stays at `ratio.start`. */
  joint: number;
  /** The share rises linearly. */
  transition: number;
  /** The share stays at `ratio.end`. */
  subnet: number;
}

/** Share of the steps that train a subnet. */
export interface Ratio {
  start: number;
  end: number;
}

export interface LearningRate {
  peak: number;
  schedule: "cosine" | "linear" | "constant";
  /** Share of all steps in which the rate rises, 0..1. */
  warmup: number;
  /** Rate of the first step, as a share of the peak. */
  start: number;
  /** Rate of the last step, as a share of the peak; the constant schedule has none. */
  end: number;
}

export interface OptimizerOptions {
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.95. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Decoupled; default 0.05. */
  weightDecay?: number;
  /** Decay biases, one-dimensional parameters and embeddings too. Default false, as in the reference. */
  decayAll?: boolean;
  /** Limit of the whole gradient's norm; 0 = off. Default 2. */
  clip?: number;
}

/** Everything that the weights depend on. Two runs of one recipe end with the same bits. */
export interface Recipe {
  config: NativeConfig;
  /** Of the tokenizer. */
  tokenizer: string;
  /** Of the weights that the run begins with. */
  base: string;
  initial: boolean;
  /** Of the tokens. */
  data: string;
  /** The base's class for each label of the tokens; left out when they are the same. */
  classes?: number[];
  images: number;
  subnets: number[];
  bridge: number;
  strategy: Strategy;
  phases: Phases;
  ratio: Ratio;
  totalSteps: number;
  seed: number;
  batch: number;
  microBatch: number;
  checkpointing: boolean;
  learningRate: LearningRate;
  optimizer: Required<OptimizerOptions>;
  labelDropout: number;
  labelSmoothing: number;
  average: number;
}

export interface TrainPlan {
  recipe: Recipe;
  /** Of the recipe. */
  hash: string;
  /** Steps of one pass through the tokens, fractional. */
  stepsPerEpoch: number;
  /** Full depth and subnets, ascending. */
  depths: number[];
  /** Names of the model's classes; undefined when nothing tells them all. */
  labels: string[] | undefined;
  /** Which classes of the base those of the tokens are, and what decided it. */
  classes: ClassMap;
  evaluation: { everySteps: number; images: number };
  warnings: string[];
}
