/** Conversion: what is written reads the same, rounding is exact, failures leave nothing behind. */

import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { convertCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { convert, findNonFinite, narrowBF16, narrowF16, widenBF16, widenF16 } from "../../lib/checkpoint/round.js";
import { AbortError, InvalidCheckpointError, InvalidOptionError, IoError, NotFiniteError } from "../../lib/errors.js";
import type { ConvertOptions } from "../../lib/options/checkpoint.js";
import {
  roundTo,
  temporaryPath,
  tensorBytes,
  valueOf16,
  writePair,
  writeTemporary,
} from "../support/checkpoint-files.js";
import { goldenPath } from "../support/golden.js";
import type { PyTensor, PyValue } from "../support/pth-writer.js";
import { Random } from "../support/random-checkpoint.js";
import { readTensors } from "../support/safetensors.js";

const trainer = goldenPath("tiny-shared", "trainer.pth");

const floatOf = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;

describe("rounding", () => {
  test("every 16-bit number widens to its value and back to itself", () => {
    for (let bits = 0; bits < 65536; bits++) {
      if (findNonFinite(Uint16Array.of(bits), "f16") < 0) {
        if (!Object.is(floatOf(widenF16(bits)), valueOf16(bits, "f16")) || narrowF16(widenF16(bits)) !== bits) {
          expect.fail(`f16 ${bits}`);
        }
      }
      if (findNonFinite(Uint16Array.of(bits), "bf16") < 0) {
        if (!Object.is(floatOf(widenBF16(bits)), valueOf16(bits, "bf16")) || narrowBF16(widenBF16(bits)) !== bits) {
          expect.fail(`bf16 ${bits}`);
        }
      }
    }
  });

  test("narrowing rounds to nearest, ties to even", () => {
    const random = new Random(3);
    for (let round = 0; round < 300_000; round++) {
      // Half of the cases lie on a tie or beside one.
      let bits = random.bits();
      if (round % 2 === 0) bits = ((bits & ~0x1fff) | 0x1000) + random.below(3) - 1;
      if (round % 4 === 0) bits = ((bits & ~0xffff) | 0x8000) + random.below(3) - 1;
      bits >>>= 0;
      const value = floatOf(bits);
      if (!Number.isFinite(value)) continue;
      const half = roundTo(value, 10, -14);
      const expectedHalf = Math.abs(half) >= 65536 ? Math.sign(half) * Number.POSITIVE_INFINITY : half;
      if (valueOf16(narrowF16(bits), "f16") !== expectedHalf) expect.fail(`f16 of ${value} (${bits})`);
      const brain = roundTo(value, 7, -126);
      const expectedBrain = Math.abs(brain) >= 2 ** 128 ? Math.sign(brain) * Number.POSITIVE_INFINITY : brain;
      if (valueOf16(narrowBF16(bits), "bf16") !== expectedBrain) expect.fail(`bf16 of ${value} (${bits})`);
    }
  });

  test("the edges of f16", () => {
    const cases: [number, number][] = [
      [65504, 0x7bff],
      [65519.996, 0x7bff],
      [65520, 0x7c00],
      [2 ** -24, 1],
      [2 ** -25, 0], // a tie with zero: zero is even
      [2 ** -25 * (1 + 2 ** -23), 1],
      [1.5 * 2 ** -24, 2],
      [2 ** -14 - 2 ** -26, 0x0400], // the largest subnormal rounds up into the normal range
    ];
    for (const [value, expected] of cases) {
      expect(narrowF16(bitsOf(value)), String(value)).toBe(expected);
      expect(narrowF16(bitsOf(-value)), String(-value)).toBe(expected | 0x8000);
    }
    expect(narrowF16(bitsOf(-0))).toBe(0x8000);
  });

  test("f16 and bf16 convert into each other through f32", () => {
    const out = new Uint16Array(1);
    convert(out, "bf16", Uint16Array.of(0x3c01), "f16", 1); // 1 + 2^-10 -> 1
    expect(valueOf16(out[0]!, "bf16")).toBe(1);
    convert(out, "f16", Uint16Array.of(0x3f81), "bf16", 1); // 1 + 2^-7
    expect(valueOf16(out[0]!, "f16")).toBe(1 + 2 ** -7);
  });
});

describe("round trip", () => {
  test("without a format every byte stays", async () => {
    const output = temporaryPath("kept.safetensors");
    const before = await openCheckpoint(trainer);
    const result = await convertCheckpoint({ source: trainer, output });
    const after = await openCheckpoint(output);
    expect(statSync(output).size).toBe(result.bytes);
    expect(after.formats).toEqual(["safetensors"]);
    expect(after.config).toEqual(before.config);
    expect(after.warnings).toEqual([]); // the heads are written down now
    expect(after.tensors.length).toBe(before.tensors.length);
    for (const { name } of before.tensors) {
      expect(tensorBytes(after, name).equals(tensorBytes(before, name)), name).toBe(true);
    }
    const values = readTensors(output); // by a reader that shares no code with the package's
    expect(values.size).toBe(before.tensors.length);
  });

  test("converting a converted file changes nothing, not even a byte", async () => {
    const [first, second] = [temporaryPath("first.safetensors"), temporaryPath("second.safetensors")];
    await convertCheckpoint({ source: writePair("again"), output: first, name: "x", metadata: { licence: "MIT" } });
    await convertCheckpoint({ source: first, output: second });
    expect(readFileSync(second).equals(readFileSync(first))).toBe(true);
  });

  test("data begins at 64 bytes, and so does every tensor of whole 64 bytes", async () => {
    const output = temporaryPath("aligned.safetensors");
    await convertCheckpoint({ source: writePair("aligned", { width: 33, heads: 1 }), output });
    for (const { name, offset, shape } of (await openCheckpoint(output)).tensors) {
      const bytes = shape.reduce((product, side) => product * side, 4);
      expect(offset % (bytes % 64 === 0 ? 64 : 4), name).toBe(0);
    }
  });

  test("every architecture survives", async () => {
    const output = temporaryPath("odd.safetensors");
    const source = writePair("odd", { l2Norm: false, width: 30, depth: 3, sides: [2, 3, 7], residualConvs: 0 });
    const before = await openCheckpoint(source, { heads: 5, residualMix: 0.25 });
    await convertCheckpoint({ source, output, heads: 5, residualMix: 0.25 });
    const { config } = await openCheckpoint(output);
    expect(config).toEqual(before.config);
    expect(config).toMatchObject({ numHeads: 5, residualMix: 0.25, sides: [2, 3, 7], numResidualConvs: 0 });
  });

  test("notes are kept, and merged with new ones", async () => {
    const [first, second] = [temporaryPath("notes1.safetensors"), temporaryPath("notes2.safetensors")];
    const previewMatrix = Float32Array.from({ length: 21 }, (_, i) => Math.fround(i / 7));
    const labels = ["zero", "one", "two", "thrée", ""];
    await convertCheckpoint({
      source: writePair("notes"),
      output: first,
      name: "test",
      labels,
      strategy: "nested",
      bridge: 1,
      depths: [2],
      recommended: { guidance: 2, topP: 0.95 },
      previewMatrix,
      metadata: { licence: "MIT" },
    });
    await convertCheckpoint({ source: first, output: second, name: "other" });
    const { name, ...notes } = await openCheckpoint(second);
    expect(name).toBe("other");
    expect(notes).toMatchObject({ labels, strategy: "nested", bridge: 1, depths: [2], metadata: { licence: "MIT" } });
    expect(notes.recommended).toEqual({ guidance: 2, topP: 0.95 });
    expect(notes.previewMatrix).toEqual(previewMatrix);
  });

  test("an older file is replaced, also when it is the source", async () => {
    const path = temporaryPath("self.safetensors");
    writeFileSync(path, "something older");
    await convertCheckpoint({ source: trainer, output: path });
    await convertCheckpoint({ source: path, output: path, dtype: "bf16" });
    expect((await openCheckpoint(path)).bytesByDType.bf16).toBeGreaterThan(0);
  });
});

describe("formats", () => {
  test.each([
    ["f16", 10, -14],
    ["bf16", 7, -126],
  ] as const)("%s: matrices and convolutions are rounded, everything else is f32", async (dtype, mantissa, minimum) => {
    const output = temporaryPath(`${dtype}.safetensors`);
    const before = await openCheckpoint(trainer);
    await convertCheckpoint({ source: trainer, output, dtype });
    const after = await openCheckpoint(output);
    const narrow = new Set(after.tensors.filter((tensor) => tensor.dtype === dtype).map(({ name }) => name));
    for (const [name, expected] of [
      ["var.blocks.0.attn.mat_qkv.weight", true],
      ["var.shared_ada_lin.1.weight", true],
      ["var.word_embed.weight", true],
      ["var.head.weight", true],
      ["vae.decoder.conv_in.weight", true],
      ["vae.encoder.mid.attn_1.qkv.weight", true],
      ["vae.post_quant_conv.weight", true],
      ["var.blocks.0.attn.proj.bias", false],
      ["var.blocks.0.ada_gss", false],
      ["var.pos_1LC", false],
      ["var.class_emb.weight", false],
      ["var.lvl_embed.weight", false],
      ["vae.decoder.norm_out.weight", false],
      ["vae.quantize.embedding.weight", false],
      ["vae.quantize.quant_resi.qresi.weight", false],
    ] as const) {
      expect(narrow.has(name), name).toBe(expected);
    }
    for (const { name, shape } of before.tensors) {
      const [source, target] = [tensorBytes(before, name), tensorBytes(after, name)];
      if (!narrow.has(name)) {
        expect(target.equals(source), name).toBe(true);
        continue;
      }
      const count = shape.reduce((product, side) => product * side, 1);
      for (let i = 0; i < count; i++) {
        const expected = roundTo(source.readFloatLE(4 * i), mantissa, minimum);
        if (valueOf16(target.readUInt16LE(2 * i), dtype) !== expected) expect.fail(`${name}[${i}]`);
      }
    }
  });

  test("widening to f32 is exact", async () => {
    const source = { var: goldenPath("tiny-shared", "half.pth"), tokenizer: goldenPath("tiny-shared", "vae.pth") };
    const output = temporaryPath("widened.safetensors");
    await convertCheckpoint({ source, output, dtype: "f32" });
    const [before, after] = [await openCheckpoint(source), await openCheckpoint(output)];
    expect(after.bytesByDType).toEqual({ f32: after.bytes, f16: 0, bf16: 0 });
    const [narrow, wide] = [tensorBytes(before, "var.head.weight"), tensorBytes(after, "var.head.weight")];
    for (let i = 0; i < narrow.length / 2; i++) {
      if (wide.readFloatLE(4 * i) !== valueOf16(narrow.readUInt16LE(2 * i), "f16")) expect.fail(String(i));
    }
  });

  test("a tensor of several chunks, whose last is not full", async () => {
    const output = temporaryPath("chunks.safetensors");
    const source = writePair("chunks", { width: 300, heads: 3, depth: 1, mlpWidth: 1000 }); // fc1: 300,000 > 2^18
    await convertCheckpoint({ source, output, dtype: "bf16" });
    const [before, after] = [await openCheckpoint(source), await openCheckpoint(output)];
    const name = "var.blocks.0.ffn.fc1.weight";
    const [wide, narrow] = [tensorBytes(before, name), tensorBytes(after, name)];
    for (let i = 0; i < 300_000; i++) {
      const expected = roundTo(wide.readFloatLE(4 * i), 7, -126);
      if (valueOf16(narrow.readUInt16LE(2 * i), "bf16") !== expected) expect.fail(String(i));
    }
  });
});

function setValue(
  dicts: Record<"var" | "vae", Map<string, PyValue>>,
  part: "var" | "vae",
  name: string,
  index: number,
  value: number,
) {
  const { data } = dicts[part].get(name) as PyTensor;
  new DataView(data.buffer, data.byteOffset).setFloat32(4 * index, value, true);
}

describe("failures", () => {
  async function fails(name: string, options: Partial<ConvertOptions>): Promise<unknown> {
    const output = temporaryPath(`${name}/out.safetensors`);
    mkdirSync(dirname(output));
    writeFileSync(output, "precious");
    const error: unknown = await convertCheckpoint({ source: trainer, output, ...options }).then(
      () => expect.fail("it succeeded"),
      (reason: unknown) => reason,
    );
    expect(readdirSync(dirname(output))).toEqual(["out.safetensors"]); // no temporary file
    expect(readFileSync(output, "utf8")).toBe("precious");
    return error;
  }

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("a weight that is %s", async (value) => {
    const source = writePair(`bad-${value}`, {}, (dicts) => setValue(dicts, "vae", "quant_conv.weight", 7, value));
    const error = await fails(`bad-${value}-out`, { source });
    expect(error).toBeInstanceOf(NotFiniteError);
    expect((error as Error).message).toContain(
      "tensor vae.quant_conv.weight is NaN or infinite at element 7 of [6, 6, 3, 3]",
    );
  });

  test("a weight too large for f16", async () => {
    const source = writePair("large", {}, (dicts) => setValue(dicts, "var", "head.weight", 9, 70_000));
    const error = await fails("large-out", { source, dtype: "f16" });
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect((error as Error).message).toMatch(/element 9 of tensor var\.head\.weight is too large.*/);
    await convertCheckpoint({ source, output: temporaryPath("large.safetensors"), dtype: "bf16" });
  });

  test("an abort in the middle", async () => {
    const controller = new AbortController();
    const onProgress = (fraction: number) => {
      if (fraction > 0.3) controller.abort("enough");
    };
    const error = await fails("abort", { signal: controller.signal, onProgress });
    expect(error).toBeInstanceOf(AbortError);
    expect(error).toMatchObject({ cause: "enough" });
  });

  test("a listener that throws", async () => {
    const error = await fails("listener", {
      onProgress: () => {
        throw new RangeError("mine");
      },
    });
    expect(error).toBeInstanceOf(RangeError);
  });

  test.each<[string, Partial<ConvertOptions>, RegExp]>([
    ["labels", { labels: ["a"] }, /labels has 1 names, the model has 3 classes/],
    ["preview", { previewMatrix: new Float32Array(4) }, /previewMatrix has 4 numbers, 21 were expected/],
    ["bridge", { bridge: 4 }, /bridge/],
    ["depths", { depths: [4, 2] }, /depths/],
    ["deep", { depths: [2, 6] }, /depths/],
  ])("notes that do not fit: %s", async (name, notes, message) => {
    const error = await fails(`notes-${name}`, notes);
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect((error as Error).message).toMatch(message);
  });

  test.each<[string, object, RegExp]>([
    ["format", { dtype: "f64" }, /option "dtype": expected "f32", "f16", "bf16"/],
    ["listener", { onProgress: 1 }, /option "onProgress"/],
    ["name", { name: 1 }, /option "name": expected a string, found 1/],
    ["key", { dtyp: "f16" }, /did you mean "dtype"/],
    ["output", { output: 1 }, /option "output"/],
  ])("an option of the wrong type: %s", async (_, options, message) => {
    const converting = convertCheckpoint({ source: trainer, output: temporaryPath("typed"), ...options });
    await expect(converting).rejects.toThrow(InvalidOptionError);
    await expect(converting).rejects.toThrow(message);
  });

  test("outputs that cannot be written", async () => {
    const folder = temporaryPath("a-folder");
    mkdirSync(folder);
    await expect(convertCheckpoint({ source: trainer, output: folder })).rejects.toThrow(/it is a folder/);
    const nowhere = convertCheckpoint({ source: trainer, output: temporaryPath("no/such/folder.safetensors") });
    await expect(nowhere).rejects.toThrow(IoError);
    await expect(nowhere).rejects.toThrow(/cannot write .*no such file or folder/);
    if (process.getuid?.() === 0) return; // root may write anywhere
    chmodSync(folder, 0o500);
    await expect(convertCheckpoint({ source: trainer, output: `${folder}/x` })).rejects.toThrow(/permission denied/);
  });
});

test("progress rises to 1 and names tensors", async () => {
  const seen: number[] = [];
  const names = new Set<string>();
  await convertCheckpoint({
    source: trainer,
    output: temporaryPath("progress.safetensors"),
    onProgress: (fraction, tensor) => {
      seen.push(fraction);
      names.add(tensor);
    },
  });
  expect(seen.every((value, index) => value > (seen[index - 1] ?? 0))).toBe(true);
  expect(seen.at(-1)).toBe(1);
  expect(names.size).toBe(199);
});

describe("metadata of a converted file", () => {
  /** Rewrites the block of a converted file; offsets do not depend on the header. */
  async function withBlock(name: string, edit: (block: Record<string, unknown>) => unknown): Promise<string> {
    const output = temporaryPath(`${name}-good.safetensors`);
    await convertCheckpoint({ source: writePair(name), output });
    const bytes = readFileSync(output);
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as { __metadata__: { nextscale: string } };
    const edited = edit(JSON.parse(header.__metadata__.nextscale) as Record<string, unknown>);
    header.__metadata__.nextscale = typeof edited === "string" ? edited : JSON.stringify(edited);
    const json = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(json.length));
    return writeTemporary(`${name}.safetensors`, Buffer.concat([size, json, bytes.subarray(8 + length)]));
  }

  type Block = Record<string, unknown> & { architecture: Record<string, unknown> };
  const architecture = (block: Record<string, unknown>, change: object) => ({
    ...block,
    architecture: { ...(block as Block).architecture, ...change },
  });

  test.each<[string, (block: Record<string, unknown>) => unknown, RegExp]>([
    ["a newer version", (block) => ({ ...block, version: 2 }), /version is 2, this nextscale reads version 1/],
    ["no JSON", () => "{", /not JSON/],
    ["a list", () => [], /not an object/],
    [
      "another depth",
      (block) => architecture(block, { depth: 3 }),
      /depth is 3 according to the metadata, 2 according to/,
    ],
    [
      "impossible sides",
      (block) => architecture(block, { sides: [1, 2, 3] }),
      /sides \[1, 2, 3\] of the metadata cannot be right/,
    ],
    ["text as heads", (block) => architecture(block, { numHeads: "3" }), /architecture\.numHeads is not a count/],
    ["an impossible mix", (block) => architecture(block, { residualMix: 7 }), /residualMix is not in 0\.\.1/],
    ["labels of numbers", (block) => ({ ...block, labels: [1, 2, 3, 4, 5] }), /labels is not a list of strings/],
    ["too few labels", (block) => ({ ...block, labels: ["a"] }), /labels has 1 names, the model has 5/],
    ["a preview of text", (block) => ({ ...block, previewMatrix: ["x"] }), /previewMatrix is not a list of finite/],
    ["an unknown strategy", (block) => ({ ...block, strategy: "odd" }), /strategy is neither/],
    ["settings that are none", (block) => ({ ...block, recommended: { topP: 3 } }), /recommended is not valid/],
  ])("%s", async (name, edit, message) => {
    const path = await withBlock(name.replaceAll(" ", "-"), edit);
    await expect(openCheckpoint(path)).rejects.toThrow(InvalidCheckpointError);
    await expect(openCheckpoint(path)).rejects.toThrow(message);
  });
});
