/**
 * The directory of a zip archive as PyTorch writes it: stored entries only, ZIP64 where sizes need it. Sizes and
 * offsets come from the central directory alone (local headers may hold zeros), and no two entries may share bytes.
 * Source: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16, 4.5.3.
 */

import { InvalidCheckpointError } from "../errors.js";
import { printable } from "./pickle-values.js";
import type { ByteSource } from "./source.js";

export interface ZipEntry {
  name: string;
  size: number; // bytes of the stored data
  crc32: number;
  method: number; // 0: stored, the only one that is read
  headerOffset: number; // of the local header
  limit: number; // where the next entry or the central directory begins
}

const END_SIGNATURE = 0x06054b50;
const END64_SIGNATURE = 0x06064b50;
const LOCATOR64_SIGNATURE = 0x07064b50;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const MAX_ENTRIES = 200_000;
const MAX_DIRECTORY_BYTES = 64 * 2 ** 20;

interface Directory {
  entries: number;
  offset: number;
  size: number;
}

/**
 * Every entry by name.
 *
 * @param refuse looks at the names before anything else is said about the entries, and throws for an archive of another
 *   kind
 * @throws InvalidCheckpointError
 */
export async function readZipDirectory(
  source: ByteSource,
  refuse: (source: ByteSource, names: readonly string[]) => void = () => undefined,
): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(source);
  const { entries: count, offset, size } = directory;
  if (count > MAX_ENTRIES || size > MAX_DIRECTORY_BYTES) {
    throw damaged(source, `it claims ${count} entries in a directory of ${size} bytes`);
  }
  const bytes = await source.read(offset, size);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + 46 > size || bytes.readUInt32LE(at) !== CENTRAL_SIGNATURE) {
      throw damaged(source, `its directory ends after ${index} of ${count} entries`);
    }
    const [entry, next] = parseEntry(source, bytes, at);
    if (entries.has(entry.name)) throw damaged(source, `it holds two entries named ${JSON.stringify(entry.name)}`);
    entries.set(entry.name, entry);
    at = next;
  }
  if (at !== size) throw damaged(source, `its directory has ${size - at} bytes more than its ${count} entries`);
  refuse(source, [...entries.keys()]);
  refuseCompressed(source, entries.values());
  limitEntries(source, [...entries.values()], offset);
  return entries;
}

/** Archives that hold no state dict, by what lies in them. @throws InvalidCheckpointError */
export function refuseOtherArchives({ path }: ByteSource, names: readonly string[]): void {
  const has = (pattern: RegExp) => names.some((name) => pattern.test(name));
  const what =
    has(/^[^/]+\/constants\.pkl$/) && has(/^[^/]+\/code\//)
      ? "a TorchScript archive (torch.jit.save), which holds a program: save model.state_dict() with torch.save instead"
      : has(/(^|\/)archive_format$/) || has(/\/models\/model\.json$/)
        ? "a program of torch.export: save model.state_dict() with torch.save instead"
        : has(/^[^/]+\/\.data\/extern_modules$/)
          ? "a torch.package archive, which holds code: save model.state_dict() with torch.save instead"
          : has(/\.npy$/)
            ? "an archive of NumPy arrays (.npz): save the weights as safetensors or with torch.save"
            : has(/\.(pth|pt|ckpt|bin|safetensors)$/)
              ? `a zip archive around checkpoints (${printable(names.find((name) => /\.(pth|pt|ckpt|bin|safetensors)$/.test(name))!)}): unpack it first`
              : null;
  if (what !== null) throw new InvalidCheckpointError(`${path}: it is ${what}`);
}

function refuseCompressed({ path }: ByteSource, entries: Iterable<ZipEntry>): void {
  for (const { name, method } of entries) {
    if (method === 0) continue;
    throw new InvalidCheckpointError(
      `${path}: entry ${JSON.stringify(name)} is compressed (method ${method}); PyTorch stores its entries: unpack what you downloaded?`,
    );
  }
}

/**
 * Offset of an entry's data in the file: behind its local header, whose own name and extra field have their own
 * lengths.
 */
export async function locateData(source: ByteSource, entry: ZipEntry): Promise<number> {
  const header = await source.read(entry.headerOffset, 30);
  if (header.readUInt32LE(0) !== LOCAL_SIGNATURE) {
    throw damaged(source, `entry ${JSON.stringify(entry.name)} has no local header`);
  }
  const nameLength = header.readUInt16LE(26);
  const start = entry.headerOffset + 30 + nameLength + header.readUInt16LE(28);
  if (start + entry.size > entry.limit) {
    throw damaged(source, `entry ${JSON.stringify(entry.name)} runs into what follows it`);
  }
  const name = (await source.read(entry.headerOffset + 30, nameLength)).toString("utf8");
  if (name !== entry.name) {
    throw damaged(source, `entry ${JSON.stringify(entry.name)} is called ${JSON.stringify(name)} in its local header`);
  }
  return start;
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const tailSize = Math.min(source.size, 22 + 0xffff);
  const tailStart = source.size - tailSize;
  const tail = await source.read(tailStart, tailSize);
  const at = findEnd(tail);
  if (at < 0) {
    throw new InvalidCheckpointError(
      `${source.path}: the zip archive has no directory at its end: a truncated download?`,
    );
  }
  const end = tailStart + at;
  const directory = await readEnd(source, tail, at, end);
  if (directory.offset + directory.size > end) throw damaged(source, "its directory lies outside the file");
  return directory;
}

/** Position of the end record: the last one whose comment ends with the file. */
function findEnd(tail: Buffer): number {
  for (let at = tail.length - 22; at >= 0; at--) {
    if (tail.readUInt32LE(at) === END_SIGNATURE && at + 22 + tail.readUInt16LE(at + 20) === tail.length) return at;
  }
  return -1;
}

async function readEnd(source: ByteSource, tail: Buffer, at: number, end: number): Promise<Directory> {
  if (tail.readUInt16LE(at + 4) !== 0 && tail.readUInt16LE(at + 4) !== 0xffff) {
    throw damaged(source, "it is one part of a split archive");
  }
  const small = {
    entries: tail.readUInt16LE(at + 10),
    size: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
  };
  if (small.entries !== 0xffff && small.size !== 0xffffffff && small.offset !== 0xffffffff) return small;
  const locator = await source.read(Math.max(0, end - 20), 20);
  // Exactly 65535 entries, say: the numbers are literal.
  if (locator.readUInt32LE(0) !== LOCATOR64_SIGNATURE) return small;
  const record = await source.read(safe(source, locator.readBigUInt64LE(8)), 56);
  if (record.readUInt32LE(0) !== END64_SIGNATURE) throw damaged(source, "its ZIP64 end record is missing");
  return {
    entries: safe(source, record.readBigUInt64LE(32)),
    size: safe(source, record.readBigUInt64LE(40)),
    offset: safe(source, record.readBigUInt64LE(48)),
  };
}

function parseEntry(source: ByteSource, bytes: Buffer, at: number): [ZipEntry, number] {
  const nameEnd = at + 46 + bytes.readUInt16LE(at + 28);
  const extraEnd = nameEnd + bytes.readUInt16LE(at + 30);
  const next = extraEnd + bytes.readUInt16LE(at + 32);
  if (next > bytes.length) throw damaged(source, "an entry of its directory is cut off");
  const name = bytes.toString("utf8", at + 46, nameEnd);
  const quoted = JSON.stringify(name);
  if ((bytes.readUInt16LE(at + 8) & 1) !== 0) throw damaged(source, `entry ${quoted} is encrypted`);
  const method = bytes.readUInt16LE(at + 10);
  const entry: ZipEntry = {
    name,
    method,
    crc32: bytes.readUInt32LE(at + 16),
    size: bytes.readUInt32LE(at + 24),
    headerOffset: bytes.readUInt32LE(at + 42),
    limit: 0,
  };
  let stored = bytes.readUInt32LE(at + 20);
  // ZIP64 fields, in this order, each only when its small field is all ones
  const wide = zip64Fields(source, bytes.subarray(nameEnd, extraEnd));
  const take = (value: number) => (value === 0xffffffff ? (wide.shift() ?? value) : value);
  entry.size = take(entry.size);
  stored = take(stored);
  entry.headerOffset = take(entry.headerOffset);
  if (method === 0 && stored !== entry.size)
    throw damaged(source, `entry ${quoted} is stored, but in ${stored} of ${entry.size} bytes`);
  return [entry, next];
}

function zip64Fields(source: ByteSource, extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) break;
    if (extra.readUInt16LE(at) === 1) {
      const fields: number[] = [];
      for (let field = at + 4; field + 8 <= end; field += 8) fields.push(safe(source, extra.readBigUInt64LE(field)));
      return fields;
    }
    at = end;
  }
  return [];
}

/** Sorts by position and gives every entry the end of its room; refuses entries that share bytes. */
function limitEntries(source: ByteSource, entries: ZipEntry[], directoryOffset: number): void {
  entries.sort((a, b) => a.headerOffset - b.headerOffset);
  entries.forEach((entry, index) => {
    entry.limit = entries[index + 1]?.headerOffset ?? directoryOffset;
    if (entry.headerOffset + 30 + entry.size > entry.limit) {
      throw damaged(source, `entry ${JSON.stringify(entry.name)} overlaps another or lies outside the file`);
    }
  });
}

function safe(source: ByteSource, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(source, `it holds the impossible size ${value}`);
  return Number(value);
}

function damaged(source: ByteSource, found: string): InvalidCheckpointError {
  return new InvalidCheckpointError(`${source.path}: damaged zip archive: ${found}`);
}
