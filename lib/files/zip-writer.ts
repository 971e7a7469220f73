/**
 * A zip archive of stored (not compressed) entries whose sizes are known beforehand, written in one pass with ZIP64 fields
 * throughout, as NumPy writes its own: 50,000 images of 256 x 256 pixels are 9.8 GB, more than the small fields hold.
 *
 * Source: APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14-16 (end records), 4.5.3 (ZIP64 field).
 */

import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";

const NEEDS_ZIP64 = 45;
const ALL_ONES = 0xffff_ffff;
const DATE_1980 = 0x21; // no time of its own: the same content gives the same bytes

interface Entry {
  name: string;
  size: number;
  offset: number; // of the local header
  crc: number;
}

export class ZipWriter {
  readonly #entries: Entry[] = [];
  #position = 0;

  constructor(readonly file: FileHandle) {}

  /** Writes one entry. The parts must have `size` bytes together. */
  async add(name: string, size: number, parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    const entry: Entry = { name, size, offset: this.#position, crc: 0 };
    await this.#write(localHeader(entry)); // its checksum is not known yet
    const begin = this.#position;
    for await (const part of parts) {
      entry.crc = crc32(part, entry.crc);
      await this.#write(part);
    }
    if (this.#position - begin !== size) {
      throw new Error(`${name} has ${this.#position - begin} bytes, ${size} were announced`);
    }
    const header = localHeader(entry);
    await writeAll(this.file, header, entry.offset);
    this.#entries.push(entry);
  }

  async finish(): Promise<void> {
    const start = this.#position;
    for (const entry of this.#entries) await this.#write(directoryHeader(entry));
    await this.#write(endRecords(this.#entries.length, start, this.#position - start));
  }

  async #write(bytes: Uint8Array): Promise<void> {
    await writeAll(this.file, bytes, this.#position);
    this.#position += bytes.length;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

function localHeader({ name, size, crc }: Entry): Buffer {
  const header = Buffer.alloc(30 + name.length + 20);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(NEEDS_ZIP64, 4);
  header.writeUInt16LE(DATE_1980, 12);
  header.writeUInt32LE(crc, 14);
  header.writeUInt32LE(ALL_ONES, 18); // both sizes: see the ZIP64 field
  header.writeUInt32LE(ALL_ONES, 22);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(20, 28);
  header.write(name, 30, "latin1");
  zip64Field(header, 30 + name.length, [size, size]);
  return header;
}

function directoryHeader({ name, size, offset, crc }: Entry): Buffer {
  const header = Buffer.alloc(46 + name.length + 28);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(NEEDS_ZIP64, 4);
  header.writeUInt16LE(NEEDS_ZIP64, 6);
  header.writeUInt16LE(DATE_1980, 14);
  header.writeUInt32LE(crc, 16);
  header.writeUInt32LE(ALL_ONES, 20);
  header.writeUInt32LE(ALL_ONES, 24);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(28, 30);
  header.writeUInt32LE(ALL_ONES, 42);
  header.write(name, 46, "latin1");
  zip64Field(header, 46 + name.length, [size, size, offset]);
  return header;
}

function zip64Field(target: Buffer, at: number, values: readonly number[]): void {
  target.writeUInt16LE(1, at);
  target.writeUInt16LE(8 * values.length, at + 2);
  values.forEach((value, index) => {
    target.writeBigUInt64LE(BigInt(value), at + 4 + 8 * index);
  });
}

/** The ZIP64 end record, its locator, and the small end record that points to them. */
function endRecords(count: number, start: number, size: number): Buffer {
  const records = Buffer.alloc(56 + 20 + 22);
  records.writeUInt32LE(0x06064b50, 0);
  records.writeBigUInt64LE(44n, 4);
  records.writeUInt16LE(NEEDS_ZIP64, 12);
  records.writeUInt16LE(NEEDS_ZIP64, 14);
  for (const at of [24, 32]) records.writeBigUInt64LE(BigInt(count), at);
  records.writeBigUInt64LE(BigInt(size), 40);
  records.writeBigUInt64LE(BigInt(start), 48);
  records.writeUInt32LE(0x07064b50, 56);
  records.writeBigUInt64LE(BigInt(start + size), 64);
  records.writeUInt32LE(1, 72);
  records.writeUInt32LE(0x06054b50, 76);
  for (const at of [84, 86]) records.writeUInt16LE(0xffff, at);
  for (const at of [88, 92]) records.writeUInt32LE(ALL_ONES, at);
  return records;
}
