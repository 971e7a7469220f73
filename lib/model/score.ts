/** Teacher-forced cross entropy: forced generations whose losses the core computes, put in order and averaged. */

import type { Architecture } from "../values/architecture.js";
import type { ScaleEvent } from "./events.js";
import { losses } from "./internal.js";

/** Teacher-forced cross entropy in nats. */
export interface Score {
  /** Per token: `[images, numTokens]`. */
  perToken: Float32Array;
  /** Mean over the tokens of each scale and all images. */
  perScale: number[];
  /** Mean over all tokens of each image. */
  perImage: number[];
  /** Mean over everything. */
  mean: number;
}

/** Runs images with forced tokens; its events carry losses. */
export type ForcedRun = (labels: Int32Array, tokens: Int32Array) => AsyncIterable<ScaleEvent>;

/** More images in one run make it no faster, only its buffers larger. */
const MAX_IMAGES = 64;

/** Images per run: what half the pool holds, so that other generations find room beside it. */
export function imagesPerRun(poolBytes: number, bytesPerImage: number): number {
  return Math.max(1, Math.min(MAX_IMAGES, Math.floor(poolBytes / 2 / bytesPerImage)));
}

export async function scoreTokens(
  architecture: Architecture,
  labels: Int32Array,
  tokens: Int32Array,
  batch: number,
  run: ForcedRun,
): Promise<Score> {
  const { numTokens } = architecture;
  const perToken = new Float32Array(tokens.length);
  for (let first = 0; first < labels.length; first += batch) {
    const end = Math.min(labels.length, first + batch);
    let offset = 0;
    for await (const event of run(labels.slice(first, end), tokens.slice(first * numTokens, end * numTokens))) {
      const found = (event as ScaleEvent & { [losses]: Float32Array })[losses]; // [end - first, area]
      const area = event.side * event.side;
      for (let image = first; image < end; image++) {
        perToken.set(found.subarray((image - first) * area, (image - first + 1) * area), image * numTokens + offset);
      }
      offset += area;
    }
  }
  return summarise(architecture, perToken, labels.length);
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
