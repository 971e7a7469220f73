/** A reader of small safetensors files, independent of the package's own: tests must not trust what they test. */

import { readFileSync } from "node:fs";

export interface Tensor {
  shape: number[];
  data: Float32Array | Int32Array | Uint8Array;
}

export function readTensors(path: string): Map<string, Tensor> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = data_offsets;
    const bytes = file.subarray(8 + headerBytes + begin, 8 + headerBytes + end);
    const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer; // aligned
    if (dtype === "F32") tensors.set(name, { shape, data: new Float32Array(copy) });
    else if (dtype === "I32") tensors.set(name, { shape, data: new Int32Array(copy) });
    else if (dtype === "U8") tensors.set(name, { shape, data: new Uint8Array(copy) });
    else throw new Error(`${path}: ${name} is ${dtype}`);
  }
  return tensors;
}
