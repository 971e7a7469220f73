/** Number formats of stored tensors, under the names that safetensors gives them. */

import type { DType } from "../native/contract.js";

const BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  C64: 8,
  C128: 16,
} as const;

/** Formats whose elements are no whole bytes: known by name, never read. */
const PACKED = new Set(["F4", "F6_E2M3", "F6_E3M2"]);

export function isPackedDType(name: string): boolean {
  return PACKED.has(name);
}

/** Any format that a file may hold; weights are F32, F16 or BF16. */
export type StoredDType = keyof typeof BYTES;

export function isStoredDType(name: string): name is StoredDType {
  return Object.hasOwn(BYTES, name);
}

export function bytesOf(dtype: StoredDType): number {
  return BYTES[dtype];
}

const WEIGHTS: Partial<Record<StoredDType, DType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** The core's name of a format, or null when weights may not have it. */
export function weightDType(dtype: StoredDType): DType | null {
  return WEIGHTS[dtype] ?? null;
}

export function storedDType(dtype: DType): StoredDType {
  return dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "BF16";
}

/** A tensor of a file, not yet known to be wanted. */
export interface StoredTensor {
  dtype: StoredDType;
  shape: number[];
  /** Index of its file. */
  file: number;
  /** Bytes from the start of the file. */
  offset: number;
  /** Elements, one per dimension; without them it is row-major without gaps. */
  strides?: number[];
}

/** Bytes from the first element of a tensor to the end of its last one. */
export function spanOf(shape: readonly number[], strides: readonly number[] | undefined, itemSize: number): number {
  const count = numElements(shape);
  if (strides === undefined || count === 0) return count * itemSize;
  return (1 + shape.reduce((last, side, axis) => last + (side - 1) * strides[axis]!, 0)) * itemSize;
}

export function numElements(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}
