/**
 * What decides a run, as plain data: what it starts from, its curriculum, and the recipe that run.json holds and that
 * is hashed.
 */

import type { ClassMap } from "../labels/index.js";
import type { NativeConfig } from "../native/contract.js";
import type { LearningRate, OptimizerOptions, Phases, Ratio } from "../options/recipe.js";
import type { Strategy } from "../values/architecture.js";

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
  averageDecay: number;
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
