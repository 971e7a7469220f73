/** The safetensors header: rules of the format, hostile headers. */

import { describe, expect, test } from "vitest";
import { findDuplicateKey } from "../../lib/checkpoint/json-keys.js";
import { readSafetensors } from "../../lib/checkpoint/safetensors.js";
import { InvalidCheckpointError } from "../../lib/errors.js";
import { MemorySource } from "../support/memory-source.js";

function file(header: unknown, dataBytes: number): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

const read = (bytes: Buffer) => readSafetensors(new MemorySource(bytes, "model.safetensors"), 3);
const tensor = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

test("names, formats, shapes, places and metadata", async () => {
  const header = {
    __metadata__: { format: "pt" },
    b: { dtype: "BF16", shape: [], data_offsets: [8, 10] },
    a: { dtype: "F32", shape: [2, 1], data_offsets: [0, 8] },
    empty: { dtype: "I64", shape: [0, 4], data_offsets: [10, 10] },
  };
  const bytes = file(header, 10);
  const { tensors, metadata } = await read(bytes);
  const start = bytes.length - 10;
  expect([...metadata]).toEqual([["format", "pt"]]);
  expect(tensors.get("a")).toEqual({ dtype: "F32", shape: [2, 1], file: 3, offset: start });
  expect(tensors.get("b")).toEqual({ dtype: "BF16", shape: [], file: 3, offset: start + 8 });
  expect(tensors.get("empty")).toEqual({ dtype: "I64", shape: [0, 4], file: 3, offset: start + 10 });
});

describe("refusals", () => {
  test.each<[string, Buffer, RegExp]>([
    ["a gap", file({ a: tensor(0, 8), b: tensor(12, 16) }, 16), /"b" begins at byte 12 of the data, 8 was expected/],
    ["an overlap", file({ a: tensor(0, 8), b: tensor(4, 12) }, 12), /"b" begins at byte 4/],
    ["a start behind 0", file({ a: tensor(4, 8) }, 8), /begins at byte 4/],
    ["missing data", file({ a: tensor(0, 8) }, 4), /4 bytes shorter/],
    ["data of no tensor", file({ a: tensor(0, 8) }, 12), /4 bytes that belong to no tensor/],
    [
      "a size that does not fit the shape",
      file({ a: tensor(0, 8, [3]) }, 8),
      /needs 12 bytes, its data_offsets hold 8/,
    ],
    [
      "offsets that run backwards",
      file({ a: { ...tensor(0, 8), data_offsets: [8, 0] } }, 8),
      /needs 8 bytes, its data_offsets hold -8/,
    ],
    ["an overflowing shape", file({ a: tensor(0, 8, [2 ** 40, 2 ** 40]) }, 8), /needs/],
    ["a negative side", file({ a: tensor(0, 8, [-2]) }, 8), /no valid shape/],
    ["a fractional side", file({ a: tensor(0, 8, [0.5]) }, 8), /no valid shape/],
    ["a shape that is none", file({ a: { ...tensor(0, 8), shape: "2" } }, 8), /no valid shape/],
    ["offsets that are none", file({ a: { ...tensor(0, 8), data_offsets: [0] } }, 8), /no valid data_offsets/],
    ["an unknown format", file({ a: { ...tensor(0, 8), dtype: "F4" } }, 8), /unknown dtype "F4"/],
    ["an inherited format", file({ a: { ...tensor(0, 8), dtype: "toString" } }, 8), /unknown dtype/],
    ["a tensor that is a list", file({ a: [] }, 0), /not described by an object/],
    ["metadata that is a list", file({ __metadata__: [] }, 0), /__metadata__ is not an object/],
    ["metadata that is a number", file({ __metadata__: { a: 1 } }, 0), /metadata "a" is not a string/],
    [
      "a key twice",
      file(`{"a":${JSON.stringify(tensor(0, 4))},"\\u0061":${JSON.stringify(tensor(0, 4))}}`, 4),
      /key "a" twice/,
    ],
    ["a list", file([], 0), /not an object/],
    ["no JSON", file("{nope}", 0), /not JSON/],
    [
      "deep nesting",
      file(`{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`, 0),
      /not JSON|not described by an object/,
    ],
    ["text that is not UTF-8", Buffer.concat([file("{}", 0).subarray(0, 9), Buffer.from([0xff])]), /not UTF-8/],
    ["a huge header", Buffer.from("ffffffffffffff7f7b7d", "hex"), /header claims/],
    ["a header longer than the file", Buffer.from("ff000000000000007b7d", "hex"), /out of bounds/],
  ])("%s", async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toThrow(InvalidCheckpointError);
    await expect(read(bytes)).rejects.toThrow(message);
  });

  test("a key named __proto__ is a name like any other", async () => {
    const { tensors } = await read(file(`{"__proto__":${JSON.stringify(tensor(0, 4))}}`, 4));
    expect([...tensors.keys()]).toEqual(["__proto__"]);
  });
});

describe("findDuplicateKey", () => {
  test.each<[string, string | null]>([
    ['{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}', null],
    ['{"a":"a","b":"b:{","c":"\\"a\\":"}', null],
    ['{"a":1,"a":2}', "a"],
    ['{"x":{"b":1,"c":2,"b":3}}', "b"],
    ['{"x":[{"b":1,"b":3}]}', "b"],
  ])("%s", (text, expected) => {
    expect(findDuplicateKey(text)).toBe(expected);
  });
});
