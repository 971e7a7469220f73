/** Kept pixels go back into a drawn picture, with a soft edge. */

import type { KeepMask } from "./mask.js";

/**
 * Lays the kept pixels of `original` over `drawn`, in place. Kept pixels farther than `feather` pixels from the nearest
 * drawn one are the original's, byte for byte; nearer ones blend; drawn ones stay as they are.
 *
 * @param drawn `[height, width, 3]` @param original `[height, width, 3]` @param feather 0 = a hard edge
 */
export function pasteKept(
  drawn: Uint8ClampedArray,
  original: Uint8ClampedArray,
  mask: KeepMask,
  feather: number,
): void {
  const distance = distanceToDrawn(mask, feather);
  for (let pixel = 0; pixel < mask.keep.length; pixel++) {
    if (mask.keep[pixel] === 0) continue;
    const share = distance[pixel]! > feather ? 1 : distance[pixel]! / (feather + 1);
    for (let at = 3 * pixel; at < 3 * pixel + 3; at++) {
      drawn[at] = drawn[at]! + share * (original[at]! - drawn[at]!);
    }
  }
}

/** Distance of every pixel to the nearest drawn one, exact up to `limit` and larger than it beyond. */
function distanceToDrawn({ width, height, keep }: KeepMask, limit: number): Float64Array {
  const far = limit + 1;
  const along = new Float64Array(keep.length).fill(far); // within the row
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let run = far;
    for (let x = 0; x < width; x++) {
      run = keep[row + x] === 0 ? 0 : Math.min(run + 1, far);
      along[row + x] = run;
    }
    run = far;
    for (let x = width - 1; x >= 0; x--) {
      run = keep[row + x] === 0 ? 0 : Math.min(run + 1, far);
      along[row + x] = Math.min(along[row + x]!, run);
    }
  }
  const distance = new Float64Array(keep.length);
  for (let y = 0; y < height; y++) {
    const first = Math.max(0, y - limit);
    const last = Math.min(height - 1, y + limit);
    for (let x = 0; x < width; x++) {
      let best = far * far;
      for (let other = first; other <= last; other++) {
        const across = along[other * width + x]!;
        if (across < far) best = Math.min(best, across * across + (other - y) ** 2);
      }
      distance[y * width + x] = Math.sqrt(best);
    }
  }
  return distance;
}
