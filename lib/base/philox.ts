/**
 * Counter-based random numbers, the same ones as the core's (native/base/rng.h): a block of four words is a pure
 * function of a counter and a key, on every platform.
 *
 * Source: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** Upper 32 bits of a 64-bit product, out of four products that a double holds exactly. */
function multiplyHigh(a: number, b: number): number {
  const [aHigh, aLow] = [a >>> 16, a & 0xffff];
  const [bHigh, bLow] = [b >>> 16, b & 0xffff];
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 65_536); // < 2^32 + 2^16
  const low = (middle % 65_536) + aLow * bHigh; // < 2^32 + 2^16
  return (aHigh * bHigh + Math.floor(middle / 65_536) + Math.floor(low / 65_536)) >>> 0;
}

/** One block for a 128-bit counter (four words) and a 64-bit key, written into `out`. */
export function philox(out: Uint32Array, counter: readonly [number, number, number, number], key: bigint): void {
  let [c0, c1, c2, c3] = counter;
  let key0 = Number(key & 0xffff_ffffn);
  let key1 = Number((key >> 32n) & 0xffff_ffffn);
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c1 = low1;
    c3 = low0;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The words of one stream, one after the other. Streams differ in seed or in any of the three stream numbers. */
export class RandomStream {
  readonly #key: bigint;
  readonly #stream: readonly [number, number, number];
  readonly #block = new Uint32Array(4);
  #next = 4; // position in the block; 4: the block is used up
  #counter = 0;

  /** @param seed 0 .. 2^64-1 @param stream three words of 32 bits */
  constructor(seed: number | bigint, stream: readonly [number, number, number]) {
    this.#key = BigInt(seed);
    this.#stream = stream;
  }

  /** 0 .. 2^32-1. */
  word(): number {
    if (this.#next === 4) {
      philox(this.#block, [this.#counter++, ...this.#stream], this.#key);
      this.#next = 0;
    }
    return this.#block[this.#next++]!;
  }

  /** Uniform in 0 .. bound-1, without bias: words beyond the last whole multiple of `bound` are drawn again. */
  below(bound: number): number {
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % bound;
    }
  }

  /** Uniform in [0, 1), 32 bits. */
  uniform(): number {
    return this.word() / 2 ** 32;
  }
}
