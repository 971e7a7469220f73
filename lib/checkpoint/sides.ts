/** The sides of the scales: written down, read from the level of every token, or found from the counts alone. */

import { InvalidCheckpointError } from "../errors.js";

/** Sides that released weights and the reference's training code use. */
const KNOWN = [
  [1, 2, 3, 4, 5, 6, 8, 10, 13, 16],
  [1, 2, 3, 4, 6, 9, 13, 18, 24, 32],
  [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64],
];

/** What the tensors say about the scales. */
export interface ScaleCounts {
  numScales: number;
  numTokens: number;
  /** Tokens of the first scale. */
  firstTokens: number;
}

/** Why these sides cannot be right, or null. */
export function contradiction(sides: readonly number[], counts: ScaleCounts): string | null {
  const tokens = sides.reduce((sum, side) => sum + side * side, 0);
  if (sides.some((side, index) => !Number.isInteger(side) || side <= (sides[index - 1] ?? 0)))
    return "they do not ascend";
  if (sides.length !== counts.numScales)
    return `they are ${sides.length}, the checkpoint has ${counts.numScales} scales`;
  if (tokens !== counts.numTokens) return `they make ${tokens} tokens, the checkpoint has ${counts.numTokens}`;
  if (sides[0]! ** 2 !== counts.firstTokens) return `the checkpoint's first scale has ${counts.firstTokens} tokens`;
  return null;
}

/** Sides from the level of each token (`lvl_1L`). @throws InvalidCheckpointError */
export function sidesFromLevels(levels: readonly number[], path: string): number[] {
  const counts: number[] = [];
  levels.forEach((level, index) => {
    const last = counts.length - 1;
    if (level === last) counts[last]!++;
    else if (level === last + 1) counts.push(1);
    else throw new InvalidCheckpointError(`${path}: lvl_1L[${index}] is ${level} after ${last}`);
  });
  return counts.map((count, level) => {
    const side = Math.round(Math.sqrt(count));
    if (side * side === count) return side;
    throw new InvalidCheckpointError(
      `${path}: scale ${level} has ${count} tokens according to lvl_1L, which is not a square`,
    );
  });
}

/** Sides from counts alone: a known list, or the only ascending one that fits. @throws InvalidCheckpointError */
export function sidesFromCounts(counts: ScaleCounts, path: string): number[] {
  const known = KNOWN.find((sides) => contradiction(sides, counts) === null);
  if (known !== undefined) return [...known];
  const about = `${path}: ${counts.numScales} scales with ${counts.numTokens} tokens`;
  const { found, complete } = searchSides(counts, 4);
  if (found.length === 1 && complete) return found[0]!;
  if (found.length === 0 && complete) throw new InvalidCheckpointError(`${about} fit no ascending list of sides`);
  const candidates = found.slice(0, 3).map((sides) => `[${sides.join(", ")}]`);
  throw new InvalidCheckpointError(
    `${about} fit several lists of sides (${candidates.join(", ")}${found.length > 3 || !complete ? ", ..." : ""}): give the option "sides"`,
  );
}

const MAX_STEPS = 100_000;

/**
 * Ascending lists whose squares add up, at most `limit` of them. Bounded in work: many scales have many lists anyway.
 */
function searchSides(counts: ScaleCounts, limit: number): { found: number[][]; complete: boolean } {
  const { numScales, numTokens, firstTokens } = counts;
  const found: number[][] = [];
  const first = Math.round(Math.sqrt(firstTokens));
  if (first < 1 || first * first !== firstTokens || numScales > 64) return { found, complete: true };
  const sides = [first];
  let steps = 0;
  const extend = (rest: number): void => {
    const left = numScales - sides.length;
    if (left === 0) {
      if (rest === 0) found.push([...sides]);
      return;
    }
    for (let side = sides.at(-1)! + 1; leastSum(side, left) <= rest; side++) {
      if (found.length >= limit || ++steps > MAX_STEPS) return;
      if (left === 1) {
        const exact = Math.round(Math.sqrt(rest));
        if (exact < side || exact * exact !== rest) return;
        side = exact;
      }
      sides.push(side);
      extend(rest - side * side);
      sides.pop();
    }
  };
  extend(numTokens - firstTokens);
  return { found, complete: steps <= MAX_STEPS };
}

/** Sum of the squares of `count` consecutive sides from `side` on. */
function leastSum(side: number, count: number): number {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += (side + index) ** 2;
  return sum;
}
