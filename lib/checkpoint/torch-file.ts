/**
 * PyTorch files: the zip archive (since 1.6) and the older stream of pickles. Both give the pickled value, in which
 * tensors are notes, and the place of each storage. Source: torch/serialization.py,
 * caffe2/serialize/inline_container.cc.
 */

import { crc32 } from "node:zlib";
import { InvalidCheckpointError } from "../errors.js";
import { bytesOf, type StoredTensor, spanOf } from "./dtype.js";
import { MAX_PICKLE_BYTES, readPickle } from "./pickle.js";
import { PickleDict, PickleList, type PickleValue, printable } from "./pickle-values.js";
import type { ByteSource } from "./source.js";
import { isContiguous, requireView, TorchHost, type TorchStorage, type TorchTensor } from "./torch.js";
import { locateData, readZipDirectory, refuseOtherArchives, type ZipEntry } from "./zip.js";

/** A PyTorch file whose pickle has been read; its tensors' numbers have not. */
export interface TorchFile {
  value: PickleValue;
  /** Where the numbers lie. @throws InvalidCheckpointError */
  locate(name: string, tensor: TorchTensor, file: number): Promise<StoredTensor>;
}

const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;
const MAX_STORAGES = 200_000;

/** @throws InvalidCheckpointError, UnsafeCheckpointError */
export async function readTorchZip(source: ByteSource): Promise<TorchFile> {
  const entries = await readZipDirectory(source, refuseOtherArchives);
  const top = findTop(source, entries);
  const byteOrder = entries.get(`${top}byteorder`);
  if (byteOrder !== undefined) {
    const order = (await readEntry(source, byteOrder, 64)).toString("latin1").trim();
    if (order !== "little")
      throw invalid(source, `its byte order is ${JSON.stringify(printable(order))}; only little is supported`);
  }
  const pickle = entries.get(`${top}data.pkl`)!;
  const bytes = await readEntry(source, pickle, MAX_PICKLE_BYTES);
  if (crc32(bytes) !== pickle.crc32) throw invalid(source, "the checksum of data.pkl is wrong: a damaged download?");
  const { value } = await readPickle(bytes, new TorchHost(source.path), source.path);
  return {
    value,
    locate: (name, tensor, file) =>
      locateTensor(source, name, tensor, file, async ({ key }) => {
        const entry = entries.get(`${top}data/${key}`);
        if (entry === undefined)
          throw invalid(source, `tensor ${printable(name)} has no data: data/${printable(key)} is missing`);
        return { offset: await locateData(source, entry), size: entry.size };
      }),
  };
}

/** @throws InvalidCheckpointError, UnsafeCheckpointError */
export async function readTorchLegacy(source: ByteSource): Promise<TorchFile> {
  // Five pickles in a row: magic number, protocol, system, value, keys of the storages. Then the storages in that
  // order.
  const head = await source.read(0, Math.min(source.size, MAX_PICKLE_BYTES));
  const host = new TorchHost(source.path);
  let at = 0;
  const next = async () => {
    const { value, length } = await readPickle(head.subarray(at), host, source.path);
    at += length;
    return value;
  };
  if ((await next()) !== LEGACY_MAGIC) throw invalid(source, "it is a pickle, but not one that torch.save wrote");
  if ((await next()) !== LEGACY_PROTOCOL) throw invalid(source, "its version of the legacy format is unknown");
  const system = await next();
  if (system instanceof PickleDict && system.get("little_endian") === false) {
    throw invalid(source, "its byte order is big-endian; only little-endian is supported");
  }
  const value = await next();
  const storages = await locateLegacyStorages(source, host, await next(), at);
  return {
    value,
    locate: (name, tensor, file) =>
      locateTensor(source, name, tensor, file, async ({ key }) => {
        const place = storages.get(key);
        if (place === undefined)
          throw invalid(source, `tensor ${printable(name)} has no data: storage ${printable(key)} is missing`);
        return place;
      }),
  };
}

interface Place {
  offset: number;
  size: number; // bytes
}

async function locateTensor(
  source: ByteSource,
  name: string,
  tensor: TorchTensor,
  file: number,
  find: (storage: TorchStorage) => Promise<Place>,
): Promise<StoredTensor> {
  const { storage, dtype, shape } = tensor;
  const itemSize = bytesOf(dtype);
  requireView(source.path, name, tensor, itemSize);
  const place = await find(storage);
  const size = storage.length * bytesOf(storage.dtype);
  if (place.size !== size) {
    throw invalid(source, `tensor ${printable(name)} expects a storage of ${size} bytes, the file holds ${place.size}`);
  }
  const offset = place.offset + tensor.offset * itemSize;
  const strides = isContiguous(tensor) ? undefined : tensor.strides;
  if (offset + spanOf(shape, strides, itemSize) > source.size) throw truncated(source, name);
  return { dtype, shape, file, offset, ...(strides !== undefined && { strides }) };
}

/** The folder of `data.pkl`, with its slash: `archive/`, or the name of the file it was saved as. */
function findTop(source: ByteSource, entries: Map<string, ZipEntry>): string {
  const tops = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (tops.length === 1) return tops[0]!.slice(0, -"data.pkl".length);
  const found = tops.length === 0 ? "it holds no data.pkl" : `it holds ${tops.length} files named data.pkl`;
  throw invalid(source, `it is a zip archive, but not one that torch.save wrote: ${found}`);
}

async function readEntry(source: ByteSource, entry: ZipEntry, limit: number): Promise<Buffer> {
  if (entry.size > limit) {
    throw invalid(source, `${JSON.stringify(printable(entry.name))} has ${entry.size} bytes, more than ${limit}`);
  }
  return source.read(await locateData(source, entry), entry.size);
}

/** Each storage is an int64 count of elements and the elements. */
async function locateLegacyStorages(
  source: ByteSource,
  host: TorchHost,
  keys: PickleValue,
  start: number,
): Promise<Map<string, Place>> {
  if (!(keys instanceof PickleList) || keys.items.length > MAX_STORAGES) {
    throw invalid(source, "its list of storages is damaged");
  }
  const places = new Map<string, Place>();
  let at = start;
  for (const key of keys.items) {
    const storage = typeof key === "string" ? host.storage(key) : undefined;
    if (storage === undefined || places.has(storage.key)) throw invalid(source, "its list of storages is damaged");
    const count = (await source.read(at, 8)).readBigInt64LE(0);
    if (count !== BigInt(storage.length)) {
      throw invalid(
        source,
        `storage ${printable(storage.key)} holds ${count} elements, ${storage.length} were expected`,
      );
    }
    const size = storage.length * bytesOf(storage.dtype);
    if (at + 8 + size > source.size) throw truncated(source, `storage ${storage.key}`);
    places.set(storage.key, { offset: at + 8, size });
    at += 8 + size;
  }
  if (at !== source.size) throw invalid(source, `it has ${source.size - at} bytes behind its last storage`);
  return places;
}

function truncated(source: ByteSource, name: string): InvalidCheckpointError {
  return invalid(source, `the data of ${printable(name)} is cut off: a truncated download?`);
}

function invalid(source: ByteSource, found: string): InvalidCheckpointError {
  return new InvalidCheckpointError(`${source.path}: ${found}`);
}
