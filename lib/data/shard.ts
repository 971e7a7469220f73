/**
 * One shard: a safetensors file of two tensors, `labels` (I32 `[count]`) and `tokens` (`[count, numTokens]`, U16 when
 * every token fits into it, else I32). Its header is a function of these sizes alone, so that reading one is comparing
 * bytes, and image `i` is found by arithmetic.
 */

import { createHash } from "node:crypto";
import { TimeSlice } from "../base/time-slice.js";
import { InvalidTokensError } from "../errors.js";
import { safetensorsLayout } from "../files/safetensors.js";
import { firstOutside } from "../values/tokens.js";

export interface ShardShape {
  /** Images. */
  count: number;
  /** Tokens per image. */
  numTokens: number;
  codebookSize: number;
}

export interface ShardLayout {
  header: Buffer;
  labelsOffset: number; // bytes from the start of the file
  tokensOffset: number;
  bytesPerToken: 2 | 4;
  fileBytes: number;
}

export function layoutOf({ count, numTokens, codebookSize }: ShardShape): ShardLayout {
  const bytesPerToken = codebookSize <= 65_536 ? 2 : 4;
  const labelBytes = 4 * count;
  const tokenBytes = bytesPerToken * count * numTokens;
  const dtype = bytesPerToken === 2 ? "U16" : "I32";
  const tensors = [
    { name: "labels", dtype: "I32", shape: [count], bytes: labelBytes },
    { name: "tokens", dtype, shape: [count, numTokens], bytes: tokenBytes },
  ];
  const { header, fileBytes } = safetensorsLayout(tensors, { alignment: 8 });
  return { header, labelsOffset: header.length, tokensOffset: header.length + labelBytes, bytesPerToken, fileBytes };
}

/** Bytes of a shard file. Tokens must be in `0 .. codebookSize-1`. */
export function encodeShard(shape: ShardShape, labels: Int32Array, tokens: Int32Array): Uint8Array {
  const { header, tokensOffset, bytesPerToken, fileBytes } = layoutOf(shape);
  const bytes = Buffer.alloc(fileBytes);
  header.copy(bytes);
  labels.forEach((label, index) => {
    bytes.writeInt32LE(label, header.length + 4 * index);
  });
  if (bytesPerToken === 2) {
    for (let index = 0; index < tokens.length; index++) bytes.writeUInt16LE(tokens[index]!, tokensOffset + 2 * index);
  } else {
    for (let index = 0; index < tokens.length; index++) bytes.writeInt32LE(tokens[index]!, tokensOffset + 4 * index);
  }
  return bytes;
}

/** Tokens of `bytes`, appended to `out` from `at` on; each is checked. @throws InvalidTokensError */
export function decodeTokens(
  path: string,
  bytes: Buffer,
  { codebookSize }: Pick<ShardShape, "codebookSize">,
  out: Int32Array | Uint16Array,
  at: number,
): void {
  const width = codebookSize <= 65_536 ? 2 : 4;
  for (let offset = 0, index = at; offset < bytes.length; offset += width, index++) {
    out[index] = width === 2 ? bytes.readUInt16LE(offset) : bytes.readInt32LE(offset);
  }
  const decoded = out.subarray(at, at + bytes.length / width);
  const bad = firstOutside(decoded, codebookSize);
  if (bad < 0) return;
  throw new InvalidTokensError(path, `the token ${decoded[bad]}`, `tokens in 0..${codebookSize - 1}`);
}

/** Labels of `bytes`, each checked. @throws InvalidTokensError */
export function decodeLabels(path: string, bytes: Buffer, numClasses: number, out: Int32Array, at: number): void {
  for (let offset = 0, index = at; offset < bytes.length; offset += 4, index++) {
    const label = bytes.readInt32LE(offset);
    if (label < 0 || label >= numClasses) {
      throw new InvalidTokensError(path, `the label ${label}`, `labels in 0..${numClasses - 1}`);
    }
    out[index] = label;
  }
}

const HASH_CHUNK = 2 ** 20;

/** SHA-256 in hexadecimal, without holding the event loop. */
export async function hashOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  const slice = new TimeSlice();
  for (let start = 0; start < bytes.length; start += HASH_CHUNK) {
    hash.update(bytes.subarray(start, start + HASH_CHUNK));
    if (slice.over) await slice.pause();
  }
  return hash.digest("hex");
}
