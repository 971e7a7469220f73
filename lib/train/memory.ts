/** How many images a pass takes: as many as the memory allows, and no more than are of use. */

import { InvalidOptionError, OutOfMemoryError } from "../errors.js";
import type { NativeAddon, NativeConfig } from "../native/contract.js";
import { numTokens } from "../values/architecture.js";

/** Beyond about this many rows a product gains nothing from more of them. */
const USEFUL_ROWS = 16_384;

/** With fewer images at a time, running the forward pass again is cheaper than reading the weights so often. */
const FEW_IMAGES = 4;

export interface MemoryOptions {
  config: NativeConfig;
  threads: number;
  average: boolean;
  batch: number;
  microBatch: number | undefined;
  checkpointing: boolean | undefined;
  /** Bytes that the training may take. */
  budget: number;
  /** The budget was asked for, not measured. */
  asked: boolean;
}

export interface MemoryPlan {
  microBatch: number;
  checkpointing: boolean;
  /** Of the trainer. */
  bytes: number;
}

/** @throws OutOfMemoryError, or InvalidOptionError for a budget that was asked for, when not even one image fits */
export function planMemory(trainerBytes: NativeAddon["trainerBytes"], options: MemoryOptions): MemoryPlan {
  const { config, threads, average, batch, budget } = options;
  const bytesOf = (microBatch: number, checkpointing: boolean) =>
    trainerBytes({ config, threads, average, microBatch, checkpointing });
  const useful = Math.max(1, Math.min(batch, Math.floor(USEFUL_ROWS / numTokens(config.sides))));
  const choices = options.checkpointing === undefined ? [false, true] : [options.checkpointing];
  const plans = choices.map((checkpointing): MemoryPlan => {
    const microBatch =
      options.microBatch === undefined
        ? balanced(
            batch,
            largest(useful, (count) => bytesOf(count, checkpointing) <= budget),
          )
        : Math.min(batch, options.microBatch);
    return { microBatch, checkpointing, bytes: bytesOf(Math.max(1, microBatch), checkpointing) };
  });
  const fits = plans.filter(({ microBatch, bytes }) => microBatch > 0 && bytes <= budget);
  const best = fits.find(({ microBatch }) => microBatch >= Math.min(useful, FEW_IMAGES)) ?? fits.at(-1);
  if (best !== undefined) return best;
  const least = plans.at(-1)!.bytes;
  const expected = `at least ${least} bytes, which this network takes for ${Math.max(1, plans.at(-1)!.microBatch)} images at a time`;
  if (options.asked) throw new InvalidOptionError("memory", String(budget), expected);
  throw new OutOfMemoryError(`training has ${budget} bytes of memory; expected ${expected}`);
}

/** Largest count of 1..most that passes, 0 when none does. `fits` is monotonous. */
function largest(most: number, fits: (count: number) => boolean): number {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Passes of nearly equal size: 32 images by 20 at a time are 16 and 16, not 20 and 12. */
function balanced(batch: number, most: number): number {
  return most === 0 ? 0 : Math.ceil(batch / Math.ceil(batch / most));
}
