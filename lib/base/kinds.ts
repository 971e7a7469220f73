/**
 * Kinds of objects, whatever realm they come from. Under jest, in `vm` contexts and for what Node itself makes there,
 * `instanceof` compares with the classes of another world.
 */

import { types } from "node:util";

export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}

export function isBytes(value: unknown): value is Uint8Array | Uint8ClampedArray {
  return types.isUint8Array(value) || types.isUint8ClampedArray(value);
}
