/** What kind of file is this? The first bytes decide, and things that are often mistaken for a checkpoint are named. */

import { InvalidCheckpointError } from "../errors.js";
import type { ByteSource } from "./source.js";

export type FileFormat = "torch-zip" | "torch-legacy" | "safetensors";

/** @throws InvalidCheckpointError that says what the file looks like instead */
export async function detectFormat(source: ByteSource): Promise<FileFormat> {
  if (source.size < 10) throw unknown(source, `it has only ${source.size} bytes`);
  const head = await source.read(0, Math.min(source.size, 512));
  if (head.readUInt32LE(0) === 0x04034b50) return "torch-zip"; // "PK\3\4"
  if (head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5) return "torch-legacy"; // a pickle's PROTO
  if (head.readBigUInt64LE(0) <= BigInt(source.size) && head[8] === 0x7b) return "safetensors"; // length, then "{"
  throw unknown(source, lookalike(head));
}

function lookalike(head: Buffer): string {
  const text = head.toString("latin1").trimStart();
  if (text.startsWith("version https://git-lfs")) {
    return "it is a Git LFS pointer, not the file itself: run `git lfs pull`, or download the file from its hub page";
  }
  if (text.startsWith("<")) return "it is a web page (HTML or XML): the download saved a page instead of the file";
  if (text.startsWith("GGUF")) return "it is a GGUF file, which is not supported";
  if (text.startsWith("\x1f\x8b")) return "it is gzip-compressed: decompress it first";
  if (text.startsWith("{")) return "it is JSON text";
  if (head[8] === 0x7b) return "it starts like safetensors, but its header is longer than the file: truncated?";
  if (head.subarray(0, 64).every((byte) => byte === 0)) return "it starts with zeros: an unfinished download?";
  return `it starts with bytes ${head.subarray(0, 8).toString("hex")}`;
}

function unknown(source: ByteSource, found: string): InvalidCheckpointError {
  return new InvalidCheckpointError(`${source.path}: a PyTorch (.pth) or safetensors file was expected, but ${found}`);
}
