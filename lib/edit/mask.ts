/**
 * Which part of a picture stays, and which tokens of each scale that means.
 *
 * Source: the reference's zero-shot editing notebook (FoundationVision/VAR, demo_zero_shot_edit.ipynb, commit 78b9539).
 */

/** `keep[y * width + x]` is 1 where the picture stays and 0 where it is drawn. */
export interface KeepMask {
  width: number;
  height: number;
  keep: Uint8Array;
}

/** A scale of so few tokens decides about the whole picture: it is always the source's. */
const TOKENS_KEPT_WHOLE = 3;

/**
 * Which tokens stay, scale after scale: `[numTokens]`, 1 = the source's, 0 = drawn.
 *
 * Each scale's map is resized straight from the mask (bilinear, half-pixel centres, no antialiasing) and keeps what is
 * strictly above one half. An edge through the middle of a token is a tie, and ties are common, so the arithmetic is
 * part of the method: it is rounded where the reference's is (the step and the weights in float32, positions in double
 * precision, four products added in float32), and gave the reference's map for every mask of `test/golden/edit`.
 */
export function keepMaps(mask: KeepMask, sides: readonly number[]): Uint8Array {
  const maps = sides.map((side) => {
    const area = side * side;
    return area <= TOKENS_KEPT_WHOLE ? new Uint8Array(area).fill(1) : keepMap(mask, side);
  });
  return concatenate(maps);
}

function keepMap({ width, height, keep }: KeepMask, side: number): Uint8Array {
  const { fround } = Math;
  const columns = taps(width, side);
  const rows = taps(height, side);
  const map = new Uint8Array(side * side);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      let share = 0;
      for (const [down, downWeight] of row) {
        for (const [right, rightWeight] of column) {
          share = fround(share + fround(downWeight * rightWeight) * keep[down * width + right]!);
        }
      }
      map[y * side + x] = share > 0.5 ? 1 : 0;
    });
  });
  return map;
}

/** For each target pixel the two source pixels that it lies between, with their weights; clamped at the borders. */
function taps(length: number, side: number): [index: number, weight: number][][] {
  const { fround } = Math;
  const step = fround(length / side);
  return Array.from({ length: side }, (_, index) => {
    const position = Math.max(0, step * (index + 0.5) - 0.5);
    const first = Math.min(Math.floor(position), length - 1);
    const weight = fround(position - first);
    return [
      [first, fround(1 - weight)],
      [Math.min(first + 1, length - 1), weight],
    ];
  });
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
