/** Every recorded checkpoint, read and compared bit for bit. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Checkpoint, type CheckpointInfo, inspectCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { roundTo, sizeOf, tensorBytes, valueOf16 } from "../support/checkpoint-files.js";
import { goldenPath } from "../support/golden.js";

const pair = (name: "tiny" | "tiny-shared" | "digits", file = "var.pth") => ({
  var: goldenPath(name, file),
  tokenizer: goldenPath(name, "vae.pth"),
});

function expectSame(a: CheckpointInfo, b: CheckpointInfo): void {
  expect(a.tensors.map(({ name }) => name).sort()).toEqual(b.tensors.map(({ name }) => name).sort());
  for (const { name, shape, dtype } of a.tensors) {
    const other = b.tensors.find((tensor) => tensor.name === name)!;
    expect({ name, shape: other.shape, dtype: other.dtype }).toEqual({ name, shape, dtype });
    expect(tensorBytes(a, name).equals(tensorBytes(b, name)), name).toBe(true);
  }
}

interface Recorded {
  vae: Record<"vocab_size" | "Cvae" | "ch" | "num_res_blocks" | "share_quant_resi" | "quant_resi", number> & {
    ch_mult: number[];
  };
  var: Record<"depth" | "embed_dim" | "num_heads" | "mlp_ratio" | "num_classes", number> & {
    shared_aln: boolean;
    attn_l2_norm: boolean;
    patch_nums: number[];
  };
}

describe("architecture", () => {
  test.each(["tiny", "tiny-shared"] as const)("%s is inferred as config.json says", async (name) => {
    const recorded = JSON.parse(readFileSync(goldenPath(name, "config.json"), "utf8")) as Recorded;
    const { config, warnings } = await openCheckpoint(pair(name));
    expect(config).toEqual({
      depth: recorded.var.depth,
      width: recorded.var.embed_dim,
      numHeads: recorded.var.num_heads,
      mlpWidth: recorded.var.embed_dim * recorded.var.mlp_ratio,
      numClasses: recorded.var.num_classes,
      sharedAda: recorded.var.shared_aln,
      l2Norm: recorded.var.attn_l2_norm,
      codebookSize: recorded.vae.vocab_size,
      codeDim: recorded.vae.Cvae,
      numResidualConvs: recorded.vae.share_quant_resi,
      residualMix: recorded.vae.quant_resi,
      channels: recorded.vae.ch,
      multipliers: recorded.vae.ch_mult,
      numResBlocks: recorded.vae.num_res_blocks,
      sides: recorded.var.patch_nums,
    });
    // Without L2-norm attention the heads are a guess, and said to be one.
    expect(warnings.join()).toMatch(recorded.var.attn_l2_norm ? /^$/ : /heads: 5 assumed/);
  });

  test("digits", async () => {
    const { config } = await openCheckpoint(pair("digits"));
    expect(config).toMatchObject({ depth: 8, width: 128, numHeads: 2, sides: [1, 2, 3, 4, 6, 8], codebookSize: 512 });
  });
});

describe("files", () => {
  test.each([
    ["tiny", "var.pth", 1],
    ["tiny", "vae.pth", 0],
    ["tiny-shared", "var.pth", 1],
    ["tiny-shared", "vae.pth", 0],
    ["digits", "var.pth", 1],
    ["digits", "vae.pth", 0],
  ] as const)("%s/%s alone", async (name, file, isTransformer) => {
    const info = await inspectCheckpoint(goldenPath(name, file));
    expect([info.transformer !== null, info.tokenizer !== null]).toEqual([isTransformer === 1, isTransformer === 0]);
    expect(info.config).toBeNull();
    expect(info.bytes).toBe(info.tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0));
    for (const { name: tensor } of info.tensors) {
      const values = floats(info, tensor);
      expect(
        values.every((value) => Number.isFinite(value) && Math.abs(value) < 1e3),
        tensor,
      ).toBe(true);
      expect(
        values.some((value) => value !== 0),
        tensor,
      ).toBe(true);
    }
  });

  test("legacy.pth equals var.pth", async () => {
    const legacy = await openCheckpoint(pair("tiny-shared", "legacy.pth"));
    expect(legacy.formats).toEqual(["torch-legacy", "torch-zip"]);
    expectSame(legacy, await openCheckpoint(pair("tiny-shared")));
  });

  test("trainer.pth holds both parts", async () => {
    const trainer = await openCheckpoint(goldenPath("tiny-shared", "trainer.pth"));
    const separate = await openCheckpoint(pair("tiny-shared"));
    expect(trainer.config).toEqual(separate.config);
    expectSame(trainer, separate);
  });

  test("a part can be taken out of trainer.pth", async () => {
    const trainer = goldenPath("tiny-shared", "trainer.pth");
    const mixed = await openCheckpoint({ var: trainer, tokenizer: goldenPath("tiny-shared", "vae.pth") });
    expectSame(mixed, await openCheckpoint(pair("tiny-shared")));
  });

  test.each([
    ["half.pth", "f16", 10, -14],
    ["bf16.pth", "bf16", 7, -126],
  ] as const)("%s holds the rounded values of var.pth", async (file, dtype, mantissa, minimum) => {
    const narrow = await openCheckpoint(pair("tiny-shared", file));
    const full = await openCheckpoint(pair("tiny-shared"));
    expect(narrow.config).toEqual(full.config); // the sides come from an int64 buffer that stays as it is
    for (const { name } of narrow.tensors.filter((tensor) => tensor.name.startsWith("var."))) {
      expect(narrow.tensors.find((tensor) => tensor.name === name)!.dtype).toBe(dtype);
      const expected = floats(full, name).map((value) => roundTo(value, mantissa, minimum));
      expect(floats(narrow, name), name).toEqual(expected);
    }
  });

  test("the order of a list of files does not matter", async () => {
    const { var: transformer, tokenizer } = pair("tiny");
    const a = await openCheckpoint([tokenizer, transformer]);
    expectSame(a, await openCheckpoint({ var: transformer, tokenizer }));
  });
});

function floats(checkpoint: CheckpointInfo | Checkpoint, name: string): number[] {
  const bytes = tensorBytes(checkpoint, name);
  const { dtype } = checkpoint.tensors.find((tensor) => tensor.name === name)!;
  if (dtype === "f32") return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  return Array.from({ length: bytes.length / 2 }, (_, i) => valueOf16(bytes.readUInt16LE(2 * i), dtype));
}
