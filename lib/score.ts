/** Teacher-forced cross entropy: the logits of forced generations, reduced in slices that never hold the event loop. */

import { type Captured, captured } from "./internal.js";
import { TimeSlice } from "./time-slice.js";
import type { Architecture, ScaleEvent, Score } from "./types.js";

/** Runs the images `[first, first + labels.length)` with forced tokens and captured logits. */
export type ForcedRun = (labels: Int32Array, tokens: Int32Array) => AsyncIterable<ScaleEvent>;

/** Captured floats of one event that are still cheap to hand over in one piece. */
const MAX_CAPTURE = 1 << 20;

/** Images per run, so that the largest scale's captured values stay small. */
export function imagesPerRun({ codebookSize, depth, width, sides }: Architecture): number {
  const side = sides.at(-1)!;
  return Math.max(1, Math.floor(MAX_CAPTURE / (side * side * (codebookSize + (depth + 1) * width))));
}

export async function scoreTokens(
  architecture: Architecture,
  labels: Int32Array,
  tokens: Int32Array,
  run: ForcedRun,
): Promise<Score> {
  const { numTokens, codebookSize } = architecture;
  const perToken = new Float32Array(tokens.length);
  const batch = imagesPerRun(architecture);
  for (let first = 0; first < labels.length; first += batch) {
    const end = Math.min(labels.length, first + batch);
    const part = tokens.slice(first * numTokens, end * numTokens);
    let offset = 0;
    for await (const event of run(labels.slice(first, end), part)) {
      const { logits } = (event as ScaleEvent & { [captured]: Captured })[captured];
      const area = event.side * event.side;
      const slice = new TimeSlice();
      for (let row = 0; row < (end - first) * area; row++) {
        const target = Math.floor(row / area) * numTokens + offset + (row % area);
        const values = logits.subarray(row * codebookSize, (row + 1) * codebookSize);
        perToken[first * numTokens + target] = crossEntropy(values, part[target]!);
        if (slice.over) await slice.pause();
      }
      offset += area;
    }
  }
  return summarise(architecture, perToken, labels.length);
}

/** `-log softmax(logits)[token]`, in nats and double precision. */
export function crossEntropy(logits: Float32Array, token: number): number {
  let max = -Infinity;
  for (const value of logits) if (value > max) max = value;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - max);
  return Math.log(sum) + max - logits[token]!;
}

function summarise({ numTokens, sides }: Architecture, perToken: Float32Array, count: number): Score {
  const perImage = Array.from({ length: count }, (_, i) => mean(perToken.subarray(i * numTokens, (i + 1) * numTokens)));
  let offset = 0;
  const perScale = sides.map((side) => {
    const start = offset;
    offset += side * side;
    const parts = perImage.map((_, i) => mean(perToken.subarray(i * numTokens + start, i * numTokens + offset)));
    return mean(parts);
  });
  return { perToken, perScale, perImage, mean: mean(perImage) };
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index]!;
  return sum / values.length;
}
