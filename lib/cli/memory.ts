/**
 * Memory that a model will need, from its shape alone: no weights are read, no binary is loaded. The figures of the KV
 * pool are exact; a test compares them with `model.peakBytes`.
 */

import type { DType } from "../native/contract.js";
import { minDepth } from "../options/depth.js";
import type { Architecture } from "../values/architecture.js";

const BYTES: Record<DType, number> = { f32: 4, f16: 2, bf16: 2 };

/** Depth by zones, both given. */
export interface Zones {
  bridge: number;
  depth: number;
}

/**
 * Largest number of pool rows that one sequence holds: a row is one token's keys and values in one block. After a
 * scale, each block of its subnet holds every token so far; the last scale needs one block's worth of scratch. The same
 * for both strategies, because every subnet is part of the full network that runs the bridge.
 */
export function peakRows({ depth: fullDepth, sides }: Pick<Architecture, "depth" | "sides">, zones: Zones): number {
  const last = sides.length - 1;
  let tokens = 0; // of the scales so far
  let peak = 0;
  sides.forEach((side, scaleIndex) => {
    const depth = scaleIndex < zones.bridge ? fullDepth : zones.depth;
    if (scaleIndex < last) tokens += side * side;
    peak = Math.max(peak, depth * tokens + (scaleIndex === last ? side * side : 0));
  });
  return peak;
}

/**
 * Bytes of the KV pool at the peak of one image: keys and values of every row, both guidance branches unless told
 * otherwise.
 */
export function poolPeakBytes(architecture: Architecture, zones: Zones, dtype: DType, sequences = 2): number {
  return peakRows(architecture, zones) * 2 * architecture.width * BYTES[dtype] * sequences;
}

/** Depths worth a line in a table, deepest first: D, those it was trained for, and the powers of two. */
export function listedDepths(fullDepth: number, trained: readonly number[]): number[] {
  const depths = new Set([fullDepth, ...trained]);
  for (let depth = minDepth(fullDepth); depth < fullDepth; depth *= 2) depths.add(depth);
  return [...depths].sort((a, b) => b - a);
}

/** Scales of a bridge to show for a model that was not trained with one: about the first seventh of the tokens. */
export function typicalBridge(sides: readonly number[]): number {
  const total = sides.reduce((sum, side) => sum + side * side, 0);
  let tokens = 0;
  let bridge = 0;
  for (const side of sides) {
    tokens += side * side;
    if (tokens > total / 7) break;
    bridge++;
  }
  return bridge;
}
