/**
 * Number formats of weights, element by element. Widening is exact; narrowing rounds to nearest, ties to even. f32
 * values travel as their bits (Uint32Array), so that nothing depends on what JavaScript does to a NaN.
 */

import type { DType } from "../native/contract.js";

/** Bits of one element: 32-bit for f32, 16-bit for the others. */
export type Bits = Uint32Array | Uint16Array;

/** The bits of `bytes`, which must be aligned to the element. */
export function bitsOf(bytes: Uint8Array, dtype: DType): Bits {
  return dtype === "f32"
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2)
    : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 1);
}

/** Index of the first NaN or infinity among the first `count` elements, or -1. */
export function findNonFinite(bits: Bits, dtype: DType, count = bits.length): number {
  const exponent = dtype === "f32" ? 0x7f800000 : dtype === "f16" ? 0x7c00 : 0x7f80;
  for (let index = 0; index < count; index++) if ((bits[index]! & exponent) === exponent) return index;
  return -1;
}

/** Converts `count` elements. `out` and `source` must be of the right kind for their formats, which differ. */
export function convert(out: Bits, to: DType, source: Bits, from: DType, count: number): void {
  LOOPS[`${from} ${to}`]?.(out, source, count);
}

// One loop per pair, so that each is compiled for its own functions: several times faster than a loop that is handed
// them.
const LOOPS: Record<string, (out: Bits, source: Bits, count: number) => void> = {
  "f32 f16": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = narrowF16(source[index]!);
  },
  "f32 bf16": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = narrowBF16(source[index]!);
  },
  "f16 f32": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = widenF16(source[index]!);
  },
  "f16 bf16": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = narrowBF16(widenF16(source[index]!));
  },
  "bf16 f32": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = widenBF16(source[index]!);
  },
  "bf16 f16": (out, source, count) => {
    for (let index = 0; index < count; index++) out[index] = narrowF16(widenBF16(source[index]!));
  },
};

/** bf16 -> f32 bits: the upper half. */
export function widenBF16(bits: number): number {
  return (bits << 16) >>> 0;
}

/** f32 bits -> bf16, for finite values. */
export function narrowBF16(bits: number): number {
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** f16 -> f32 bits, for finite values. */
export function widenF16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 31;
  let mantissa = bits & 0x3ff;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  const shift = Math.clz32(mantissa) - 21; // subnormal: move the leading one to bit 10
  mantissa = (mantissa << shift) & 0x3ff;
  return (sign | ((113 - shift) << 23) | (mantissa << 13)) >>> 0;
}

/** f32 bits -> f16, for finite values; what is too large becomes infinity. */
export function narrowF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 255;
  const mantissa = bits & 0x7fffff;
  if (exponent >= 143) return sign | 0x7c00; // 2^16 and up
  if (exponent >= 113) {
    // A carry out of the mantissa raises the exponent, up to infinity, as it should.
    const value = ((exponent - 112) << 23) | mantissa;
    return sign | ((value + 0xfff + ((value >>> 13) & 1)) >>> 13);
  }
  if (exponent < 102) return sign; // below half of the smallest subnormal
  const full = mantissa | 0x800000;
  const shift = 126 - exponent; // 14..24
  const half = 1 << (shift - 1);
  return sign | ((full + half - 1 + ((full >>> shift) & 1)) >>> shift);
}
