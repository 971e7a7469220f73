/** A tensor's numbers, row-major, whatever its strides. */

import { numElements, type StoredTensor, spanOf } from "./dtype.js";
import type { FileSource } from "./source.js";

type Place = Pick<StoredTensor, "shape" | "offset" | "strides">;

/**
 * The bytes of the elements, in pieces of at most `scratch.length`, each of which is valid until the next is asked for.
 * Memory is that of `scratch`, and for a tensor with strides that of its span.
 */
export async function* readTensor(
  file: FileSource,
  tensor: Place,
  itemSize: number,
  scratch: Uint8Array,
): AsyncGenerator<Uint8Array> {
  const total = numElements(tensor.shape);
  const most = Math.floor(scratch.length / itemSize);
  const gather = tensor.strides === undefined ? null : await openGather(file, tensor, itemSize);
  for (let first = 0; first < total; first += most) {
    const count = Math.min(most, total - first);
    const piece = scratch.subarray(0, count * itemSize);
    if (gather === null) await file.readInto(piece, tensor.offset + first * itemSize);
    else gather(piece, count);
    yield piece;
  }
}

/** All of a small tensor. */
export async function readWhole(file: FileSource, tensor: Place, itemSize: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(numElements(tensor.shape) * itemSize); // a buffer of its own is aligned
  for await (const _ of readTensor(file, tensor, itemSize, bytes));
  return bytes;
}

/** Copies the next elements at each call. */
async function openGather(file: FileSource, { shape, offset, strides }: Place, itemSize: number) {
  const span = await file.read(offset, spanOf(shape, strides, itemSize));
  const index = shape.map(() => 0);
  let at = 0; // element that the index stands for
  return (target: Uint8Array, count: number): void => {
    for (let done = 0; done < count; done++) {
      for (let byte = 0; byte < itemSize; byte++) target[done * itemSize + byte] = span[at * itemSize + byte]!;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at += strides![axis]!;
        if (++index[axis]! < shape[axis]!) break;
        at -= strides![axis]! * shape[axis]!;
        index[axis] = 0;
      }
    }
  };
}
