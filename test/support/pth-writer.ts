/**
 * A small writer of PyTorch files, independent of the package's readers: pickles (protocol 2), the zip archive and the
 * legacy stream. It can also write what torch.save never would, for tests of refusals.
 */

import { crc32 } from "node:zlib";

export type Format = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "U8";

const STORAGE: Record<Format, [name: string, bytes: number]> = {
  F64: ["DoubleStorage", 8],
  F32: ["FloatStorage", 4],
  F16: ["HalfStorage", 2],
  BF16: ["BFloat16Storage", 2],
  I64: ["LongStorage", 8],
  I32: ["IntStorage", 4],
  U8: ["ByteStorage", 1],
};

/** A tensor whose storage is its own, unless told otherwise. */
export class PyTensor {
  readonly strides: number[];
  readonly storageOffset: number;
  readonly key: string | undefined;

  constructor(
    readonly format: Format,
    readonly shape: number[],
    readonly data: Uint8Array, // of the whole storage
    view: { strides?: number[]; storageOffset?: number; key?: string } = {},
  ) {
    this.strides = view.strides ?? rowMajor(shape);
    this.storageOffset = view.storageOffset ?? 0;
    this.key = view.key;
  }
}

export class PyTuple {
  readonly items: PyValue[];
  constructor(...items: PyValue[]) {
    this.items = items;
  }
}

/** `module.name(*args)` */
export class PyCall {
  constructor(
    readonly name: string,
    readonly args: PyValue[],
  ) {}
}

/** Opcodes as they are: what only an attacker writes. */
export class PyRaw {
  constructor(readonly bytes: Buffer) {}
}

/** Maps become an OrderedDict with `_metadata`, as a state dict has; plain objects become a dict. */
export type PyValue =
  | null
  | boolean
  | number
  | string
  | PyTensor
  | PyTuple
  | PyCall
  | PyRaw
  | PyValue[]
  | Map<string, PyValue>
  | { [key: string]: PyValue };

function rowMajor(shape: number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * shape[axis + 1]!;
  return strides;
}

export class Pickler {
  readonly storages = new Map<string, Uint8Array>();
  private readonly parts: Buffer[] = [];

  constructor(private readonly legacy = false) {}

  pickle(value: PyValue): Buffer {
    this.parts.length = 0;
    this.op(0x80, 2);
    this.value(value);
    this.op(0x2e);
    return Buffer.concat(this.parts);
  }

  private op(...bytes: number[]): void {
    this.parts.push(Buffer.from(bytes));
  }

  private value(value: PyValue): void {
    if (value === null) this.op(0x4e);
    else if (typeof value === "boolean") this.op(value ? 0x88 : 0x89);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.text(value);
    else if (value instanceof PyTensor) this.tensor(value);
    else if (value instanceof PyTuple) this.tuple(value.items);
    else if (value instanceof PyRaw) this.parts.push(value.bytes);
    else if (value instanceof PyCall) {
      this.global(value.name);
      this.tuple(value.args);
      this.op(0x52);
    } else if (Array.isArray(value)) {
      this.op(0x5d, 0x28);
      for (const item of value) this.value(item);
      this.op(0x65);
    } else if (value instanceof Map) {
      this.global("collections.OrderedDict");
      this.op(0x29, 0x52);
      this.items([...value]);
      this.value({ _metadata: {} });
      this.op(0x62);
    } else {
      this.op(0x7d);
      this.items(Object.entries(value));
    }
  }

  private items(entries: [string, PyValue][]): void {
    this.op(0x28);
    for (const [key, item] of entries) {
      this.text(key);
      this.value(item);
    }
    this.op(0x75);
  }

  private number(value: number): void {
    const bytes = Buffer.alloc(9);
    if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
      bytes[0] = 0x4a;
      bytes.writeInt32LE(value, 1);
      this.parts.push(bytes.subarray(0, 5));
    } else if (Number.isInteger(value)) {
      bytes.writeBigInt64LE(BigInt(value), 1);
      this.op(0x8a, 8);
      this.parts.push(bytes.subarray(1));
    } else {
      bytes[0] = 0x47;
      bytes.writeDoubleBE(value, 1);
      this.parts.push(bytes);
    }
  }

  private text(value: string): void {
    const bytes = Buffer.from(value);
    const head = Buffer.alloc(5);
    head[0] = 0x58;
    head.writeUInt32LE(bytes.length, 1);
    this.parts.push(head, bytes);
  }

  private tuple(items: PyValue[]): void {
    this.op(0x28);
    for (const item of items) this.value(item);
    this.op(0x74);
  }

  private global(name: string): void {
    const dot = name.lastIndexOf(".");
    this.parts.push(Buffer.from(`c${name.slice(0, dot)}\n${name.slice(dot + 1)}\n`));
  }

  private tensor(tensor: PyTensor): void {
    const [storage, size] = STORAGE[tensor.format];
    const key = tensor.key ?? String(this.storages.size);
    this.storages.set(key, tensor.data);
    this.global("torch._utils._rebuild_tensor_v2");
    this.op(0x28, 0x28);
    this.text("storage");
    this.global(`torch.${storage}`);
    this.text(key);
    this.text("cpu");
    this.number(tensor.data.length / size);
    if (this.legacy) this.op(0x4e);
    this.op(0x74, 0x51);
    this.number(tensor.storageOffset);
    this.tuple(tensor.shape);
    this.tuple(tensor.strides);
    this.op(0x89);
    this.value(new Map());
    this.op(0x74, 0x52);
  }
}

export interface ZipOptions {
  top?: string;
  /** Write sizes and offsets as ZIP64 only. */
  zip64?: boolean;
  method?: number;
  byteOrder?: string;
  /** Changes entries before they are written. */
  edit?: (entries: ZipFile[]) => ZipFile[];
}

export interface ZipFile {
  name: string;
  data: Uint8Array;
  crc?: number;
}

/** Receives a file piece by piece: a list in memory, or a file on disk. */
export type Sink = (bytes: Uint8Array) => void;

/** torch.save, since 1.6 */
export function torchZip(value: PyValue, options: ZipOptions = {}): Buffer {
  const parts: Uint8Array[] = [];
  writeTorchZip((bytes) => parts.push(bytes), value, options);
  return Buffer.concat(parts);
}

export function writeTorchZip(sink: Sink, value: PyValue, options: ZipOptions = {}): void {
  const pickler = new Pickler();
  const pickle = pickler.pickle(value);
  const top = options.top ?? "archive";
  let files: ZipFile[] = [{ name: `${top}/data.pkl`, data: pickle }];
  if (options.byteOrder !== undefined) files.push({ name: `${top}/byteorder`, data: Buffer.from(options.byteOrder) });
  for (const [key, data] of pickler.storages) files.push({ name: `${top}/data/${key}`, data });
  files.push({ name: `${top}/version`, data: Buffer.from("3\n") });
  if (options.edit !== undefined) files = options.edit(files);
  writeZip(sink, files, options);
}

/** Local headers hold zeros for sizes, as PyTorch writes them, and padding that the directory does not have. */
export function writeZip(sink: Sink, files: ZipFile[], { zip64 = false, method = 0 }: ZipOptions = {}): void {
  const directory: Buffer[] = [];
  let position = 0;
  const write = (bytes: Uint8Array) => {
    sink(bytes);
    position += bytes.length;
  };
  for (const { name, data, crc = crc32(data) } of files) {
    const bytes = Buffer.from(name);
    const offset = position;
    const padding = 4 + ((64 - ((position + 34 + bytes.length) % 64)) % 64);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(0x0808, 6);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(bytes.length, 26);
    local.writeUInt16LE(padding, 28);
    const extra = Buffer.alloc(padding, "Z");
    extra.write("FB", 0);
    extra.writeUInt16LE(padding - 4, 2);
    write(Buffer.concat([local, bytes, extra]));
    write(data);
    directory.push(centralEntry(bytes, data.length, crc, offset, method, zip64));
  }
  const start = position;
  for (const entry of directory) write(entry);
  for (const end of endRecords(files.length, start, position, zip64)) write(end);
}

function centralEntry(name: Buffer, size: number, crc: number, offset: number, method: number, zip64: boolean): Buffer {
  const extra = Buffer.alloc(zip64 ? 28 : 0);
  if (zip64) {
    extra.writeUInt16LE(1, 0);
    extra.writeUInt16LE(24, 2);
    extra.writeBigUInt64LE(BigInt(size), 4);
    extra.writeBigUInt64LE(BigInt(size), 12);
    extra.writeBigUInt64LE(BigInt(offset), 20);
  }
  const entry = Buffer.alloc(46);
  entry.writeUInt32LE(0x02014b50, 0);
  entry.writeUInt16LE(0x0808, 8);
  entry.writeUInt16LE(method, 10);
  entry.writeUInt32LE(crc, 16);
  entry.writeUInt32LE(zip64 ? 0xffffffff : size, 20);
  entry.writeUInt32LE(zip64 ? 0xffffffff : size, 24);
  entry.writeUInt16LE(name.length, 28);
  entry.writeUInt16LE(extra.length, 30);
  entry.writeUInt32LE(zip64 ? 0xffffffff : offset, 42);
  return Buffer.concat([entry, name, extra]);
}

function endRecords(count: number, start: number, end: number, zip64: boolean): Buffer[] {
  const last = Buffer.alloc(22);
  last.writeUInt32LE(0x06054b50, 0);
  last.writeUInt16LE(zip64 ? 0xffff : count, 8);
  last.writeUInt16LE(zip64 ? 0xffff : count, 10);
  last.writeUInt32LE(zip64 ? 0xffffffff : end - start, 12);
  last.writeUInt32LE(zip64 ? 0xffffffff : start, 16);
  if (!zip64) return [last];
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  record.writeBigUInt64LE(BigInt(count), 24);
  record.writeBigUInt64LE(BigInt(count), 32);
  record.writeBigUInt64LE(BigInt(end - start), 40);
  record.writeBigUInt64LE(BigInt(start), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(end), 8);
  locator.writeUInt32LE(1, 16);
  return [record, locator, last];
}

/** torch.save with `_use_new_zipfile_serialization=False` */
export function torchLegacy(value: PyValue, { littleEndian = true } = {}): Buffer {
  const pickler = new Pickler(true);
  const object = pickler.pickle(value);
  const parts: Uint8Array[] = [
    Buffer.from("80028a0a6cfc9c46f9206aa850192e", "hex"),
    new Pickler().pickle(1001),
    new Pickler().pickle({ protocol_version: 1001, little_endian: littleEndian, type_sizes: { short: 2 } }),
    object,
    new Pickler().pickle([...pickler.storages.keys()]),
  ];
  for (const [key, data] of pickler.storages) {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(data.length / elementBytes(object, key)));
    parts.push(count, data);
  }
  return Buffer.concat(parts);
}

/** The pickle says what a storage holds: `torch` newline class newline, then the key. */
function elementBytes(pickle: Buffer, key: string): number {
  const head = Buffer.alloc(5);
  head[0] = 0x58;
  head.writeUInt32LE(key.length, 1);
  const at = pickle.indexOf(Buffer.concat([Buffer.from("Storage\n"), head, Buffer.from(key)]));
  const name = pickle.toString("latin1", pickle.lastIndexOf("\n", at) + 1, at + 7);
  return Object.values(STORAGE).find(([storage]) => storage === name)![1];
}
