/**
 * What a run tells its listener, in this order: `plan`, `start`, then steps, evaluations and saves, then what comes of
 * it.
 */

import type { TrainPlan } from "./recipe.js";

/** Bytes that a run will take. */
export interface MemoryFigures {
  /** Weights, gradients, moments, average and activations. */
  trainerBytes: number;
  /** Tokens held in memory. */
  dataBytes: number;
  /** What it may take. */
  budgetBytes: number;
}

/** One optimizer step, as a line of metrics.jsonl. */
export interface StepMetrics {
  type: "step";
  /** Updates done, this one included: counts from 1. */
  step: number;
  /** Where the step began, in the unit of the phases. */
  epoch: number;
  /** Depth of the flexible zone. */
  depth: number;
  /** Mean over all tokens, in nats. */
  loss: number;
  perScale: number[];
  /** Before clipping. */
  gradientNorm: number;
  /** Probability that this step trained a subnet. */
  ratio: number;
  learningRate: number;
  ms: number;
  tokensPerSecond: number;
}

/** Cross entropy of the held-out tokens at one depth, as a line of metrics.jsonl. */
export interface EvaluationMetrics {
  type: "evaluation";
  /** Updates done before it. */
  step: number;
  epoch: number;
  depth: number;
  images: number;
  /** Mean over all tokens, in nats. */
  loss: number;
  perScale: number[];
  /** Of the averaged weights, when there are any. */
  average: boolean;
}

export type TrainEvent =
  /** Before anything is allocated. */
  | { type: "plan"; plan: TrainPlan; memory: MemoryFigures }
  | {
      type: "start";
      /** Updates that a resumed run has done already. */
      step: number;
      totalSteps: number;
      resumed: boolean;
      /** Bytes of the trainer, as taken when it opened. */
      memoryBytes: number;
    }
  | (StepMetrics & {
      totalSteps: number;
      /** Moving average of the loss of each depth trained so far. */
      averages: Readonly<Record<number, number>>;
      /** Milliseconds that the rest will take at the pace so far. */
      remainingMs: number;
    })
  | EvaluationMetrics
  | { type: "save"; step: number; path: string; bytes: number; ms: number }
  | { type: "warning"; message: string }
  | { type: "export"; path: string; fraction: number }
  | { type: "report"; path: string };
