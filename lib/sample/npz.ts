/**
 * A `.npz`, as NumPy's savez writes one: `.npy` entries that are stored, not compressed, in a zip archive that may pass
 * 4 GiB.
 */

import type { FileHandle } from "node:fs/promises";
import { PassThrough, Readable } from "node:stream";
import { ZipFile } from "yazl";
import { writeAll } from "../files/atomic-file.js";

export interface NpzArray {
  /** Without `.npy`. */
  name: string;
  /** NumPy's name of the number format: `|u1`, `<i8`. */
  descr: string;
  shape: readonly number[];
  /** Of `data`, all parts together. */
  bytes: number;
  data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/**
 * No time of its own: the same content gives the same bytes. Zip archives know local times only, and none before 1980.
 */
const NO_TIME = new Date(1980, 0, 1);

/** The checksum of a piece of this size holds the event loop for a millisecond or two. */
const PIECE = 2 ** 19;

/** Writes all arrays, one after the other, whatever their size. Throws what the file or the data throws. */
export async function writeNpz(file: FileHandle, arrays: readonly NpzArray[]): Promise<void> {
  const zip = new ZipFile();
  const output = zip.outputStream.pipe(new PassThrough());
  const fail = (error: Error) => output.destroy(error);
  zip.on("error", fail);
  for (const array of arrays) {
    const header = npyHeader(array);
    const size = header.length + array.bytes;
    const options = { size, compress: false, mtime: NO_TIME, forceDosTimestamp: true };
    zip.addReadStreamLazy(`${array.name}.npy`, options, (use) => {
      use(null, Readable.from(piecesOf(header, array)).on("error", fail));
    });
  }
  zip.end();
  for await (const chunk of output) await writeAll(file, chunk as Uint8Array);
}

async function* piecesOf(header: Buffer, { name, bytes, data }: NpzArray): AsyncGenerator<Uint8Array> {
  yield header;
  let found = 0;
  for await (const part of data) {
    for (let at = 0; at < part.length; at += PIECE) yield part.subarray(at, at + PIECE);
    found += part.length;
  }
  if (found !== bytes) throw new Error(`${name} has ${found} bytes, ${bytes} were announced`);
}

/** Magic, version 1.0, a header padded so that the data begins at a multiple of 64 bytes. Source: NEP 1. */
function npyHeader({ descr, shape }: NpzArray): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const padded = `${text.padEnd(64 * Math.ceil((text.length + 11) / 64) - 11)}\n`;
  const header = Buffer.from(`\x93NUMPY\x01\x00  ${padded}`, "latin1");
  header.writeUInt16LE(padded.length, 8);
  return header;
}
