/**
 * Headers of safetensors files that are written: 8 bytes of length, JSON, spaces. Source: the format section of the
 * safetensors README (github.com/huggingface/safetensors). Reading is for lib/checkpoint, which trusts nobody.
 */

/** One tensor, in the order of the file. */
export interface TensorToWrite {
  name: string;
  /** As safetensors spells it: "F32". */
  dtype: string;
  shape: readonly number[];
  bytes: number;
}

export interface SafetensorsLayout {
  header: Buffer;
  /** Bytes of the whole file: the header, then the tensors without gaps. */
  fileBytes: number;
}

/** @param alignment of the first tensor's data, in bytes: the header is padded with spaces */
export function safetensorsLayout(
  tensors: readonly TensorToWrite[],
  { alignment, metadata }: { alignment: number; metadata?: Record<string, string> },
): SafetensorsLayout {
  const entries: [string, unknown][] = metadata === undefined ? [] : [["__metadata__", metadata]];
  let position = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    entries.push([name, { dtype, shape, data_offsets: [position, position + bytes] }]);
    position += bytes;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const padded = Math.ceil((8 + json.length) / alignment) * alignment;
  const header = Buffer.alloc(padded, " ");
  header.writeBigUInt64LE(BigInt(padded - 8), 0);
  json.copy(header, 8);
  return { header, fileBytes: padded + position };
}
