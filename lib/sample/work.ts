/** Which images are wanted, in which order, and who makes which? */

import type { SampleShard } from "../options/sample.js";

/** One image. */
export interface Sample {
  /** Place among all images of the run, class by class. */
  position: number;
  classIndex: number;
  /** Number in its class, from 0. */
  index: number;
}

/** Images of each class, class by class. */
export class Work {
  readonly total: number;

  constructor(
    readonly classes: readonly number[],
    readonly perClass: number,
  ) {
    this.total = classes.length * perClass;
  }

  at(position: number): Sample {
    const classIndex = this.classes[Math.floor(position / this.perClass)]!;
    return { position, classIndex, index: position % this.perClass };
  }

  /** Positions `[first, end)` of one shard: a range, as equal as they can be. */
  rangeOf({ index, of }: SampleShard): [first: number, end: number] {
    return [Math.floor((index * this.total) / of), Math.floor(((index + 1) * this.total) / of)];
  }
}

/**
 * Counter of an image's random numbers: the class in the upper, the number in the class in the lower half. It depends
 * on nothing else, so an image is the same in every run, shard and batch.
 */
export function counterOf({ classIndex, index }: Sample): number {
  return classIndex * 2 ** 32 + index;
}

/** Samples whose counters follow each other: what one generation can draw. */
export function consecutive(samples: readonly Sample[]): Sample[][] {
  const runs: Sample[][] = [];
  for (const sample of samples) {
    const run = runs.at(-1);
    if (run !== undefined && counterOf(run.at(-1)!) + 1 === counterOf(sample)) run.push(sample);
    else runs.push([sample]);
  }
  return runs;
}
