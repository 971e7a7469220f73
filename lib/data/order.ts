/** In what order does an epoch visit the images? */

import { RandomStream } from "../base/philox.js";
import { TimeSlice } from "../base/time-slice.js";
import { checkInteger, checkSeed } from "../options/check.js";

/** Separates these draws from others of the same seed. */
const ORDER_STREAM = 0x6f726472;

const MAX_LENGTH = 2 ** 31;

/** Swaps between two looks at the clock: well below a millisecond. */
const SWAPS = 512;

/**
 * A permutation of `0 .. length-1` that is a function of its arguments alone, on every platform: Fisher-Yates with
 * draws from a counter-based generator whose counter holds the epoch.
 *
 * @param seed 0 .. 2^64-1
 * @param epoch 0 .. 2^32-1
 * @param length 0 .. 2^31
 * @throws InvalidOptionError
 */
export function epochOrder(seed: number | bigint, epoch: number, length: number): Uint32Array {
  const { order, random } = begin(seed, epoch, length);
  shuffle(order, random, length - 1, 0);
  return order;
}

/** The same without holding the event loop: a million images take a second. */
export async function epochOrderInSlices(seed: number | bigint, epoch: number, length: number): Promise<Uint32Array> {
  const { order, random } = begin(seed, epoch, length);
  const slice = new TimeSlice();
  for (let last = length - 1; last > 0; last -= SWAPS) {
    shuffle(order, random, last, Math.max(0, last - SWAPS));
    if (slice.over) await slice.pause();
  }
  return order;
}

function begin(seed: number | bigint, epoch: number, length: number) {
  checkSeed("seed", seed);
  checkInteger("epoch", epoch, 0, 2 ** 32 - 1);
  const order = new Uint32Array(checkInteger("length", length, 0, MAX_LENGTH));
  for (let index = 0; index < length; index++) order[index] = index;
  return { order, random: new RandomStream(seed, [epoch, 0, ORDER_STREAM]) };
}

/** Places `last` down to `end + 1` get what they keep. */
function shuffle(order: Uint32Array, random: RandomStream, last: number, end: number): void {
  for (; last > end; last--) {
    const other = random.below(last + 1);
    const kept = order[last]!;
    order[last] = order[other]!;
    order[other] = kept;
  }
}
