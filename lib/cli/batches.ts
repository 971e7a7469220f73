/** Many images in pieces that the KV pool holds, with the very images that one piece would give. */

import type { Image } from "../image/image.js";
import type { Label } from "../labels/index.js";
import type { ScaleEvent } from "../model/events.js";
import type { Model } from "../model/model.js";
import type { GenerateOptions } from "../options/generate.js";

export interface Batch {
  /** 0-based. */
  index: number;
  total: number;
  /** Number of its first image in the whole run. */
  firstImage: number;
  /** Images in it. */
  count: number;
}

export interface BatchListener {
  onScale(scale: ScaleEvent, batch: Batch): void;
  onDecode(batch: Batch): void;
  /** Images arrive in order; the next one waits for this. */
  onImage(image: Image, index: number, seed: number | bigint): Promise<void>;
}

const MAX_BATCH = 16;

/** As many images as the pool holds at the plan's peak, up to 16: more would only delay the first one. */
export function defaultBatchSize(model: Model, options: GenerateOptions, count: number): number {
  return Math.max(1, Math.min(model.imagesAtOnce(options), MAX_BATCH, count)); // the pool refuses what does not fit
}

/** The draws of an image depend on the seed and its number in the run, never on the batch it is in. */
export async function generateInBatches(
  model: Model,
  labels: readonly Label[],
  size: number,
  options: GenerateOptions,
  listener: BatchListener,
): Promise<{ seed: number | bigint; generateMs: number; decodeMs: number }> {
  let { seed } = options;
  let generateMs = 0;
  let decodeMs = 0;
  const total = Math.ceil(labels.length / size);
  for (let index = 0; index < total; index++) {
    const part = labels.slice(index * size, (index + 1) * size);
    const firstImage = index * size;
    const batch = { index, total, firstImage, count: part.length };
    const begin = performance.now();
    const generation = model.generate({ ...options, labels: part, firstImage, ...(seed !== undefined && { seed }) });
    seed = generation.seed;
    for await (const scale of generation) listener.onScale(scale, batch);
    const drawn = performance.now();
    listener.onDecode(batch);
    const images = await generation.images();
    generateMs += drawn - begin;
    decodeMs += performance.now() - drawn;
    for (const [offset, image] of images.entries()) await listener.onImage(image, batch.firstImage + offset, seed);
  }
  return { seed: seed!, generateMs, decodeMs };
}
