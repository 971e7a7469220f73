/**
 * The header of a safetensors file: 8 bytes of length, JSON, then data that the tensors cover exactly, without gaps and
 * overlaps. Source: the format section of the safetensors README (github.com/huggingface/safetensors).
 */

import { InvalidCheckpointError } from "../errors.js";
import { bytesOf, isPackedDType, isStoredDType, numElements, type StoredTensor } from "./dtype.js";
import { findDuplicateKey } from "./json-keys.js";
import { printable } from "./pickle-values.js";
import type { ByteSource } from "./source.js";

export interface SafetensorsHeader {
  tensors: Map<string, StoredTensor>;
  metadata: Map<string, string>;
}

const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 16;

/** @param file index that the tensors get @throws InvalidCheckpointError */
export async function readSafetensors(source: ByteSource, file: number): Promise<SafetensorsHeader> {
  const length = (await source.read(0, 8)).readBigUInt64LE(0);
  if (length > BigInt(MAX_HEADER_BYTES)) throw damaged(source, `its header claims ${length} bytes`);
  const dataStart = 8 + Number(length);
  const text = decode(source, await source.read(8, Number(length)));
  const header = parse(source, text);
  const tensors = new Map<string, StoredTensor>();
  const ranges: Range[] = [];
  let metadata = new Map<string, string>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      metadata = parseMetadata(source, value);
      continue;
    }
    const { begin, end, ...tensor } = parseTensor(source, name, value);
    tensors.set(name, { ...tensor, file, offset: dataStart + begin });
    ranges.push({ name, begin, end });
  }
  requireCoverage(source, ranges, source.size - dataStart);
  return { tensors, metadata };
}

interface Range {
  name: string;
  begin: number;
  end: number;
}

function decode(source: ByteSource, bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw damaged(source, "its header is not UTF-8 text", error);
  }
}

function parse(source: ByteSource, text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw damaged(source, "its header is not JSON", error);
  }
  if (!isRecord(header)) throw damaged(source, "its header is not an object");
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) throw damaged(source, `its header holds the key ${quote(duplicate)} twice`);
  return header;
}

function parseMetadata(source: ByteSource, value: unknown): Map<string, string> {
  if (!isRecord(value)) throw damaged(source, "its __metadata__ is not an object");
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw damaged(source, `its metadata ${quote(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(source: ByteSource, name: string, value: unknown) {
  const at = `tensor ${quote(name)}`;
  if (!isRecord(value)) throw damaged(source, `${at} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype === "string" && isPackedDType(dtype)) {
    throw new InvalidCheckpointError(
      `${source.path}: ${at} has the unknown dtype ${quote(dtype)}, less than a byte per element; F32, F16 or BF16 was expected: save the weights in one of them`,
    );
  }
  if (typeof dtype !== "string" || !isStoredDType(dtype))
    throw damaged(source, `${at} has the unknown dtype ${quote(dtype)}`);
  if (!isSizes(shape) || shape.length > MAX_RANK) throw damaged(source, `${at} has no valid shape`);
  if (!isSizes(offsets) || offsets.length !== 2) throw damaged(source, `${at} has no valid data_offsets`);
  const [begin, end] = offsets as [number, number];
  const bytes = numElements(shape) * bytesOf(dtype);
  if (begin + bytes !== end) {
    throw damaged(source, `${at} [${shape.join(", ")}] needs ${bytes} bytes, its data_offsets hold ${end - begin}`);
  }
  return { dtype, shape, begin, end };
}

function requireCoverage(source: ByteSource, ranges: Range[], dataBytes: number): void {
  ranges.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of ranges) {
    if (begin !== position) {
      throw damaged(source, `tensor ${quote(name)} begins at byte ${begin} of the data, ${position} was expected`);
    }
    position = end;
  }
  if (position > dataBytes) {
    const missing = position - dataBytes;
    throw damaged(source, `it is ${missing} bytes shorter than its header says: a truncated download?`);
  }
  if (position < dataBytes) throw damaged(source, `it has ${dataBytes - position} bytes that belong to no tensor`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((side) => Number.isSafeInteger(side) && side >= 0);
}

function quote(value: unknown): string {
  return printable(JSON.stringify(value) ?? "undefined");
}

function damaged(source: ByteSource, found: string, cause?: unknown): InvalidCheckpointError {
  return new InvalidCheckpointError(`${source.path}: damaged safetensors file: ${found}`, { cause });
}
