/**
 * The KV pool as the design describes it, counted with sets of tokens instead of chains and running sums: which block
 * holds the tokens of which scale. Slow and obvious; the tests compare the engine's bytes with it.
 */

/** What decides how many rows one sequence needs. */
export interface PoolCase {
  sides: readonly number[];
  /** Blocks of the subnet of each depth. */
  blocks(depth: number): readonly number[];
  keepDropped: boolean;
}

/** The paper's subnet of a depth: `floor(i·(D−1)/(d−1))`. */
export function evenBlocks(fullDepth: number, depth: number): number[] {
  if (depth === fullDepth) return Array.from({ length: fullDepth }, (_, block) => block);
  return Array.from({ length: depth }, (_, i) => Math.floor((i * (fullDepth - 1)) / (depth - 1)));
}

/** Rows that one sequence holds while each scale runs, one row = keys and values of one token in one block. */
export function rowsByScale({ sides, blocks, keepDropped }: PoolCase, depths: readonly number[]): number[] {
  const held = new Map<number, Set<number>>(); // block -> scales it holds
  return depths.map((depth, scale) => {
    const active = new Set(blocks(depth));
    if (!keepDropped) for (const block of [...held.keys()]) if (!active.has(block)) held.delete(block);
    const last = scale === sides.length - 1;
    if (!last) {
      for (const block of active) held.set(block, (held.get(block) ?? new Set<number>()).add(scale));
    }
    let rows = last ? sides[scale]! ** 2 : 0; // one block's worth of scratch, whatever the depth
    for (const scales of held.values()) for (const index of scales) rows += sides[index]! ** 2;
    return rows;
  });
}

/** Bytes of one row: K and V of `width` numbers. */
export function rowBytes(width: number, dtype: "f32" | "f16" | "bf16"): number {
  return 2 * width * (dtype === "f32" ? 4 : 2);
}

/** What one generation may use: built from its plan, narrowed to what it did once its scale events are known. */
export class ExpectedUse {
  /** Bytes while scale k runs. */
  readonly bytes: readonly number[];

  constructor(parts: PoolCase, depths: readonly number[], sequences: number, bytesPerRow: number) {
    this.bytes = rowsByScale(parts, depths).map((rows) => rows * sequences * bytesPerRow);
  }

  get peak(): number {
    return Math.max(...this.bytes);
  }

  /**
   * Whether a generation that has told of `heard` scales can use `bytes`: nothing yet, what a scale not before needs, or
   * (all over) nothing any more.
   */
  allows(bytes: number, heard: number): boolean {
    return bytes === 0 || this.bytes.slice(Math.max(0, heard - 1)).includes(bytes);
  }
}
