/** Temporary checkpoint files and the bytes of tensors in them. */

import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { CheckpointInfo } from "../../lib/checkpoint/index.js";
import type { TensorEntry } from "../../lib/native/contract.js";
import { type PyValue, torchZip } from "./pth-writer.js";
import { type RandomModel, randomStateDicts } from "./random-checkpoint.js";

let folder: string | undefined;

/** A path in a folder that is removed after the tests of the file. */
export function temporaryPath(name: string): string {
  if (folder === undefined) {
    folder = mkdtempSync(join(tmpdir(), "nextscale-test-"));
  }
  return join(folder, name);
}

afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  folder = undefined;
});

export function writeTemporary(name: string, bytes: Uint8Array | string): string {
  const path = temporaryPath(name);
  writeFileSync(path, bytes);
  return path;
}

/** A pair of random files; `edit` changes the state dicts before they are written. */
export function writePair(
  name: string,
  model: RandomModel = {},
  edit: (dicts: { var: Map<string, PyValue>; vae: Map<string, PyValue> }) => void = () => {},
): { var: string; tokenizer: string } {
  const dicts = randomStateDicts(model);
  edit(dicts);
  return {
    var: writeTemporary(`${name}-var.pth`, torchZip(dicts.var)),
    tokenizer: writeTemporary(`${name}-vae.pth`, torchZip(dicts.vae)),
  };
}

/** The stored bytes of one tensor, read by itself. */
export function tensorBytes(checkpoint: CheckpointInfo, name: string): Buffer {
  const tensor = checkpoint.tensors.find((entry) => entry.name === name);
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  const bytes = Buffer.alloc(sizeOf(tensor));
  const fd = openSync(checkpoint.files[tensor.file]!, "r");
  try {
    if (readSync(fd, bytes, 0, bytes.length, tensor.offset) !== bytes.length) throw new Error(`${name} is cut off`);
  } finally {
    closeSync(fd);
  }
  return bytes;
}

export function sizeOf({ shape, dtype }: TensorEntry): number {
  return shape.reduce((product, side) => product * side, dtype === "f32" ? 4 : 2);
}

/**
 * Rounds to nearest, ties to even, by arithmetic in double precision: `mantissa` explicit bits, exponents from
 * `minimum`.
 */
export function roundTo(value: number, mantissa: number, minimum: number): number {
  if (value === 0) return value;
  const exponent = Math.max(minimum, Math.floor(Math.log2(Math.abs(value))));
  const unit = 2 ** (exponent - mantissa);
  const scaled = value / unit;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return (up ? floor + 1 : floor) * unit;
}

/** Value of a 16-bit float by its definition. */
export function valueOf16(bits: number, dtype: "f16" | "bf16"): number {
  const [exponentBits, mantissaBits, bias] = dtype === "f16" ? [5, 10, 15] : [8, 7, 127];
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = (bits & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** (1 - bias) : sign * (1 + mantissa) * 2 ** (exponent - bias);
}
