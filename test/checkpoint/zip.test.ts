/** The zip archive: what PyTorch writes, and what it never would. */

import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readStateDicts } from "../../lib/checkpoint/state-dict.js";
import { readZipDirectory } from "../../lib/checkpoint/zip.js";
import { InvalidCheckpointError } from "../../lib/errors.js";
import { MemorySource } from "../support/memory-source.js";
import { type PyTensor, torchLegacy, torchZip, type ZipOptions } from "../support/pth-writer.js";
import { randomStateDicts } from "../support/random-checkpoint.js";

const { var: dict } = randomStateDicts();
const read = (bytes: Buffer) => readStateDicts(new MemorySource(bytes), 0);

async function biasOf(bytes: Buffer): Promise<Buffer> {
  const { offset, shape } = (await read(bytes)).parts.var.get("head.bias")!;
  return bytes.subarray(offset, offset + 4 * shape[0]!);
}

const bias = Buffer.from((dict.get("head.bias") as PyTensor).data);

describe("what is read", () => {
  test.each<[string, ZipOptions]>([
    ["any top folder", { top: "var_d16" }],
    ["ZIP64", { zip64: true }],
    ["a byteorder entry", { byteOrder: "little" }],
    [
      "foreign entries",
      { edit: (files) => [{ name: "archive/.data/serialization_id", data: Buffer.from("1") }, ...files] },
    ],
    [
      "a checksum of tensor data that is not there",
      { edit: (files) => files.map((f) => (f.name.includes("/data/") ? { ...f, crc: 0 } : f)) },
    ],
  ])("%s", async (_, options) => {
    expect((await biasOf(torchZip(dict, options))).equals(bias)).toBe(true);
  });

  test("an archive with a comment", async () => {
    const bytes = Buffer.concat([torchZip(dict), Buffer.from("hello")]);
    bytes.writeUInt16LE(5, bytes.length - 7);
    expect((await biasOf(bytes)).equals(bias)).toBe(true);
  });

  test("offsets beyond 4 GiB come out of ZIP64 fields", async () => {
    // A sparse file of 9 GB: only the ends exist.
    const tail = torchZip(dict, { zip64: true });
    const shift = 9 * 2 ** 30;
    const source = new ShiftedSource(tail, shift);
    const entries = await readZipDirectory(source);
    expect(entries.get("archive/data.pkl")!.headerOffset).toBe(shift);
    const { parts } = await readStateDicts(source, 0);
    const { offset } = parts.var.get("head.bias")!;
    expect(offset).toBeGreaterThan(shift);
    expect((await source.read(offset, bias.length)).equals(bias)).toBe(true);
  });
});

/** The archive `bytes`, moved `shift` bytes up in a huge file that starts with its first bytes. */
class ShiftedSource extends MemorySource {
  override readonly size: number;
  constructor(
    readonly archive: Buffer,
    private readonly shift: number,
  ) {
    super(archive);
    this.size = archive.length + shift;
    // Every offset in the directory, and the two of the end records, moves up.
    for (let at = archive.indexOf("PK\x01\x02"); at >= 0; at = archive.indexOf("PK\x01\x02", at + 1)) {
      const extra = at + 46 + archive.readUInt16LE(at + 28) + 20;
      archive.writeBigUInt64LE(archive.readBigUInt64LE(extra) + BigInt(shift), extra);
    }
    for (const at of [archive.indexOf("PK\x06\x06") + 48, archive.indexOf("PK\x06\x07") + 8]) {
      archive.writeBigUInt64LE(archive.readBigUInt64LE(at) + BigInt(shift), at);
    }
  }

  override async read(offset: number, length: number): Promise<Buffer> {
    if (offset >= this.shift) return super.read(offset - this.shift, length).catch(() => this.outside());
    return Buffer.from("PK\x03\x04".padEnd(length, "\0"));
  }

  private outside(): Buffer {
    throw new InvalidCheckpointError("out of bounds");
  }
}

describe("what is refused", () => {
  const good = torchZip(dict);

  test.each<[string, () => Buffer, RegExp]>([
    [
      "compressed entries",
      () => torchZip(dict, { method: 8, edit: (files) => files.map((f) => ({ ...f, data: deflateRawSync(f.data) })) }),
      /compressed \(method 8\)/,
    ],
    ["an encrypted entry", () => edited(good, "PK\x01\x02", 8, 0x0801, 2), /encrypted/],
    ["big-endian", () => torchZip(dict, { byteOrder: "big" }), /byte order is "big"/],
    ["no data.pkl", () => torchZip(dict, { edit: (files) => files.slice(1) }), /holds no data\.pkl/],
    [
      "two of data.pkl",
      () => torchZip(dict, { edit: (files) => [...files, { name: "other/data.pkl", data: files[0]!.data }] }),
      /2 files named data\.pkl/,
    ],
    ["two equal names", () => torchZip(dict, { edit: (files) => [...files, files[1]!] }), /two entries named/],
    [
      "a damaged pickle",
      () => torchZip(dict, { edit: ([first, ...rest]) => [{ ...first!, crc: 1 }, ...rest] }),
      /checksum of data\.pkl is wrong/,
    ],
    [
      "missing data",
      () => torchZip(dict, { edit: (files) => files.filter(({ name }) => name !== "archive/data/0") }),
      /data\/0 is missing/,
    ],
    [
      "data of a wrong size",
      () =>
        torchZip(dict, {
          edit: (files) => files.map((f) => (f.name === "archive/data/0" ? { ...f, data: f.data.subarray(4) } : f)),
        }),
      /expects a storage of \d+ bytes/,
    ],
    ["a wrong local name", () => edited(good, "archive/data/0", 8, 0x58, 1), /is called/],
    ["no local header", () => edited(good, "PK\x03\x04", 2, 0, 1, 1), /has no local header/],
    [
      "a local extra field beyond the entry",
      () => edited(good, "PK\x03\x04", 28, 0xffff, 2, 1),
      /runs into what follows/,
    ],
    ["overlapping entries", () => overlapping(good), /overlaps another/],
    [
      "an entry outside the file",
      () => edited(good, "PK\x01\x02", 42, 0x7fffffff, 4),
      /overlaps another or lies outside/,
    ],
    [
      "an entry larger than the file",
      () => edited(edited(good, "PK\x01\x02", 24, 0x7fffffff, 4), "PK\x01\x02", 20, 0x7fffffff, 4),
      /overlaps another or lies outside/,
    ],
    ["sizes that differ", () => edited(good, "PK\x01\x02", 20, 1, 4), /in 1 of \d+ bytes/],
    ["a directory outside the file", () => edited(good, "PK\x05\x06", 16, 0x7fffffff, 4), /directory lies outside/],
    ["too few entries", () => edited(good, "PK\x05\x06", 10, 1, 2), /more than its 1 entries/],
    ["too many entries", () => edited(good, "PK\x05\x06", 10, 0xfffe, 2), /ends after/],
    ["a part of a split archive", () => edited(good, "PK\x05\x06", 4, 3, 2), /split archive/],
    ["a name longer than the directory", () => edited(good, "PK\x01\x02", 28, 0xffff, 2), /cut off/],
    [
      "a ZIP64 end record elsewhere",
      () => edited(torchZip(dict, { zip64: true }), "PK\x06\x07", 8, 0, 4),
      /ZIP64 end record is missing/,
    ],
    [
      "impossible ZIP64 numbers",
      () => edited(torchZip(dict, { zip64: true }), "PK\x06\x06", 54, 0xffff, 2),
      /impossible size/,
    ],
    [
      "billions of entries",
      () => edited(torchZip(dict, { zip64: true }), "PK\x06\x06", 36, 9, 4),
      /it claims \d+ entries/,
    ],
    ["an empty archive", () => Buffer.concat([Buffer.from("PK\x03\x04"), good.subarray(-22)]), /directory/],
  ])("%s", async (_, make, message) => {
    const bytes = make();
    await expect(read(bytes)).rejects.toThrow(InvalidCheckpointError);
    await expect(read(bytes)).rejects.toThrow(message);
  });

  test("every truncation", async () => {
    const step = Math.ceil(good.length / 97);
    for (let length = 0; length < good.length; length += step) {
      await expect(read(good.subarray(0, length)), `${length} bytes`).rejects.toThrow(InvalidCheckpointError);
    }
    await expect(read(good.subarray(0, -1))).rejects.toThrow(/truncated download/);
  });
});

describe("the legacy stream", () => {
  const good = torchLegacy(dict);

  test("is read", async () => {
    expect((await biasOf(good)).equals(bias)).toBe(true);
  });

  test("every truncation is refused", async () => {
    const step = Math.ceil(good.length / 97);
    for (let length = 0; length < good.length; length += step) {
      await expect(read(good.subarray(0, length)), `${length} bytes`).rejects.toThrow(InvalidCheckpointError);
    }
    await expect(read(good.subarray(0, -1))).rejects.toThrow(/cut off: a truncated download/);
  });

  test.each<[string, () => Buffer, RegExp]>([
    ["big-endian", () => torchLegacy(dict, { littleEndian: false }), /big-endian/],
    ["another pickle", () => Buffer.from("\x80\x02}q\x00.            ", "latin1"), /not one that torch\.save wrote/],
    ["another version", () => edited(good, "J\xe9\x03", 1, 7, 1), /version of the legacy format/],
    ["bytes behind the end", () => Buffer.concat([good, Buffer.from("x")]), /1 bytes behind its last storage/],
    [
      "a wrong count",
      () => edited(good, Buffer.from(bias).toString("latin1"), -8, 25, 1),
      /holds 25 elements, 24 were expected/,
    ],
  ])("%s", async (_, make, message) => {
    await expect(read(make())).rejects.toThrow(message);
  });
});

/** A copy with a number written at `offset` behind the `index`-th occurrence of `anchor`. */
function edited(bytes: Buffer, anchor: string, offset: number, value: number, size: number, index = 0): Buffer {
  const copy = Buffer.from(bytes);
  let at = copy.indexOf(anchor, 0, "latin1");
  for (let skip = 0; skip < index; skip++) at = copy.indexOf(anchor, at + 1, "latin1");
  if (at < 0) throw new Error(`no ${anchor}`);
  copy.writeUIntLE(value, at + offset, size);
  return copy;
}

/** The second entry of the directory points at the first one's header. */
function overlapping(bytes: Buffer): Buffer {
  return edited(bytes, "PK\x01\x02", 42, 0, 4, 1);
}
