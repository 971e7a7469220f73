/** Held-out cross entropy of every depth that a run trains. */

import type { NativeTrainer } from "../native/contract.js";
import type { TokenSource } from "../values/token-source.js";
import type { EvaluationMetrics } from "./events.js";
import type { Schedule } from "./schedule.js";

export interface EvaluationOptions {
  schedule: Schedule;
  depths: readonly number[];
  images: number;
  /** Images of one pass. */
  microBatch: number;
  /** Of the averaged weights. */
  average: boolean;
  signal: AbortSignal | undefined;
}

/** One line per depth, or null when the signal was aborted meanwhile. Changes nothing in the trainer. */
export async function evaluate(
  trainer: NativeTrainer,
  heldout: TokenSource,
  place: { step: number; epoch: number },
  { schedule, depths, images, microBatch, average, signal }: EvaluationOptions,
): Promise<EvaluationMetrics[] | null> {
  const chosen = spread(heldout.length, images);
  const lines: EvaluationMetrics[] = [];
  for (const depth of depths) {
    const sums = new Float64Array(heldout.sides.length);
    for (let first = 0; first < chosen.length; first += microBatch) {
      if (signal?.aborted) return null;
      const { tokens, labels } = await heldout.read(chosen.slice(first, first + microBatch));
      const losses = new Float32Array(tokens.length);
      await trainer.evaluate(tokens, labels, schedule.depthsOf(depth), average, losses);
      addPerScale(sums, losses, heldout.sides);
    }
    const tokens = heldout.sides.map((side) => side * side * chosen.length);
    lines.push({
      type: "evaluation",
      ...place,
      depth,
      images: chosen.length,
      loss: sum(sums) / sum(tokens),
      perScale: tokens.map((count, scale) => sums[scale]! / count),
      average,
    });
  }
  return lines;
}

/** `count` numbers of 0..length-1, evenly spread: classes lie one after the other. */
export function spread(length: number, count: number): number[] {
  const taken = Math.min(length, count);
  return Array.from({ length: taken }, (_, index) => Math.floor((index * length) / taken));
}

function addPerScale(sums: Float64Array, losses: Float32Array, sides: readonly number[]): void {
  for (let at = 0; at < losses.length; ) {
    for (let scale = 0; scale < sides.length; scale++) {
      const end = at + sides[scale]! ** 2;
      for (; at < end; at++) sums[scale]! += losses[at]!;
    }
  }
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let index = 0; index < values.length; index++) total += values[index]!;
  return total;
}
