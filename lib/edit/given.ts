/** Which tokens of a generation are given, and by whom: by a mask, by strength, or by both. */

import { RandomStream } from "../base/philox.js";

/** Words of the counter that no other draw uses ("edit", "keep"). */
const STREAM = [0x65646974, 0x6b656570, 0] as const;

/** In a map of given tokens: this one is drawn. */
export const DRAW = -1;

/**
 * Which tokens a strength keeps: `[numTokens]`, 1 = the source's.
 *
 * Strength 0 keeps every scale and 1 none. Between, scales are kept from the smallest one on, because these hold the
 * composition; the scale at the threshold keeps a share of its tokens, chosen by the seed.
 */
export function keptByStrength(strength: number, sides: readonly number[], seed: number | bigint): Uint8Array {
  const kept = (1 - strength) * sides.length;
  const whole = Math.floor(kept);
  const maps = sides.map((side, scale) => {
    const area = side * side;
    if (scale < whole) return new Uint8Array(area).fill(1);
    const count = scale === whole ? Math.round((kept - whole) * area) : 0;
    return chosen(area, count, seed);
  });
  return Uint8Array.from(maps.flatMap((map) => [...map]));
}

/** `count` ones among `length`, the same for the same seed. */
function chosen(length: number, count: number, seed: number | bigint): Uint8Array {
  const map = new Uint8Array(length).fill(1, 0, count);
  const stream = new RandomStream(seed, STREAM);
  for (let last = length - 1; last > 0; last--) {
    const other = stream.below(last + 1);
    [map[last], map[other]] = [map[other]!, map[last]!];
  }
  return map;
}

/** The source's token where either keeps it, else {@link DRAW}. All three are `[numTokens]`. */
export function givenTokens(source: Int32Array, kept: readonly Uint8Array[]): Int32Array {
  return source.map((token, index) => (kept.some((map) => map[index] === 1) ? token : DRAW));
}

/**
 * Tokens on the seam: drawn ones with a given neighbour in their own scale, or all drawn ones where no scale has a
 * seam. Indices into `[numTokens]`.
 */
export function seamTokens(given: Int32Array, sides: readonly number[]): number[] {
  const seam: number[] = [];
  const drawn: number[] = [];
  let offset = 0;
  for (const side of sides) {
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const index = offset + y * side + x;
        if (given[index] !== DRAW) continue;
        drawn.push(index);
        if (hasGivenNeighbour(given, offset, side, y, x)) seam.push(index);
      }
    }
    offset += side * side;
  }
  return seam.length > 0 ? seam : drawn;
}

function hasGivenNeighbour(given: Int32Array, offset: number, side: number, y: number, x: number): boolean {
  for (let down = Math.max(0, y - 1); down <= Math.min(side - 1, y + 1); down++) {
    for (let right = Math.max(0, x - 1); right <= Math.min(side - 1, x + 1); right++) {
      if (given[offset + down * side + right] !== DRAW) return true;
    }
  }
  return false;
}
