/** Architectures of many kinds, and tensors that do not fit together. */

import { describe, expect, test } from "vitest";
import { inspectCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { sidesFromCounts } from "../../lib/checkpoint/sides.js";
import { InvalidCheckpointError, InvalidOptionError } from "../../lib/errors.js";
import { writePair, writeTemporary } from "../support/checkpoint-files.js";
import { PyTensor, PyTuple, type PyValue, torchLegacy, torchZip } from "../support/pth-writer.js";
import { Random, type RandomModel, randomStateDicts } from "../support/random-checkpoint.js";

describe("inference", () => {
  test.each<[string, RandomModel]>([
    ["odd width, one head", { width: 37, heads: 1, depth: 3, mlpWidth: 51 }],
    ["many heads", { width: 36, heads: 36 }],
    ["one block", { depth: 1 }],
    ["shared AdaLN", { sharedAda: true }],
    ["no L2 norm", { l2Norm: false, width: 26, depth: 2 }],
    ["unusual sides", { sides: [1, 3, 4, 9] }],
    ["first side of 2", { sides: [2, 3, 5] }],
    ["one scale", { sides: [3] }],
    ["one shared residual convolution", { residualConvs: 1 }],
    ["seven shared residual convolutions", { residualConvs: 7 }],
    ["a residual convolution per scale", { residualConvs: 0 }],
    ["one level", { multipliers: [3] }],
    ["many levels", { multipliers: [1, 2, 2, 1], channels: 32, numResBlocks: 2 }],
    ["f16", { format: "F16" }],
  ])("%s", async (name, model) => {
    const { config } = await openCheckpoint(writePair(name.replaceAll(" ", "-"), model));
    const { width = 24, depth = 2, l2Norm = true, sides = [1, 2, 4], residualConvs = 4, multipliers = [1, 2] } = model;
    expect(config).toEqual({
      depth,
      width,
      numHeads: l2Norm ? (model.heads ?? 3) : depth,
      mlpWidth: model.mlpWidth ?? 4 * width,
      numClasses: 5,
      sharedAda: model.sharedAda ?? false,
      l2Norm,
      codebookSize: 24,
      codeDim: 6,
      numResidualConvs: residualConvs,
      residualMix: 0.5,
      channels: 32,
      multipliers,
      numResBlocks: model.numResBlocks ?? 1,
      sides,
    });
  });

  test("a tokenizer without residual convolutions mixes none", async () => {
    const { config } = await openCheckpoint(writePair("no-phi", { residualConvs: -1 }), { residualMix: 0.5 });
    expect(config.residualMix).toBe(0);
  });

  test("names of a residual convolution per scale are the reference's", async () => {
    const { tensors } = await openCheckpoint(writePair("per-scale", { residualConvs: 0 }));
    const names = tensors
      .map(({ name }) => name)
      .filter((name) => name.includes("quant_resi") && name.endsWith("weight"));
    expect(names).toEqual([0, 1, 2].map((index) => `vae.quantize.quant_resi.${index}.weight`));
  });

  test("wrappers of data-parallel and compiled models are dropped", async () => {
    const rename = (dict: Map<string, PyValue>, prefix: string) =>
      new Map([...dict].map(([key, value]) => [prefix + key, value]));
    const { var: transformer, vae } = randomStateDicts();
    const path = writeTemporary(
      "wrapped.pth",
      torchZip({
        epoch: 3,
        model: { ignored: 1 },
        trainer: { var_wo_ddp: rename(transformer, "_orig_mod."), vae_local: rename(vae, "module.") },
      }),
    );
    expect((await openCheckpoint(path)).config.depth).toBe(2);
    const nested = writeTemporary("nested.pth", torchZip({ state_dict: rename(transformer, "module._orig_mod.") }));
    expect((await inspectCheckpoint(nested)).transformer?.width).toBe(24);
  });

  test("parameters and the legacy format", async () => {
    const { var: transformer, vae } = randomStateDicts();
    const path = writeTemporary("plain.pth", torchLegacy({ var_wo_ddp: transformer, vae_local: vae }));
    expect((await openCheckpoint(path)).formats).toEqual(["torch-legacy"]);
  });
});

describe("sides", () => {
  const options = { withoutLevels: true };

  test("the released lists are known by their counts", () => {
    const counts = (numScales: number, numTokens: number) => ({ numScales, numTokens, firstTokens: 1 });
    expect(sidesFromCounts(counts(10, 680), "x")).toEqual([1, 2, 3, 4, 5, 6, 8, 10, 13, 16]);
    expect(sidesFromCounts(counts(10, 2240), "x")).toEqual([1, 2, 3, 4, 6, 9, 13, 18, 24, 32]);
    expect(sidesFromCounts(counts(14, 9451), "x")).toEqual([1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64]);
  });

  test("without lvl_1L the only list that fits is found", async () => {
    const { config } = await openCheckpoint(writePair("search", { ...options, sides: [1, 2, 4] }));
    expect(config.sides).toEqual([1, 2, 4]);
  });

  test("an ambiguous count names the candidates, and the option settles it", async () => {
    const pair = writePair("ambiguous", { ...options, sides: [1, 2, 3, 8, 9] }); // 1+4+9+64+81 = 159 = 1+4+36+... too
    await expect(openCheckpoint(pair)).rejects.toThrow(/fit several lists of sides \(\[1, .*give the option "sides"/);
    expect((await openCheckpoint(pair, { sides: [1, 2, 3, 8, 9] })).config.sides).toEqual([1, 2, 3, 8, 9]);
  });

  test("impossible counts and hopeless searches end", () => {
    expect(() => sidesFromCounts({ numScales: 3, numTokens: 7, firstTokens: 1 }, "x")).toThrow(InvalidCheckpointError);
    const start = performance.now();
    expect(() => sidesFromCounts({ numScales: 20, numTokens: 99_999, firstTokens: 1 }, "x")).toThrow(/several|fit no/);
    expect(() => sidesFromCounts({ numScales: 64, numTokens: 1e12, firstTokens: 1 }, "x")).toThrow(/several|fit no/);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test.each([
    [[1, 2], "they are 2"],
    [[1, 2, 5], "30 tokens"],
    [[1, 4, 2], "do not ascend"],
  ])("the option %s is refused", async (sides, why) => {
    const opening = openCheckpoint(writePair("refused-sides", { sides: [1, 2, 4] }), { sides });
    await expect(opening).rejects.toThrow(InvalidOptionError);
    await expect(opening).rejects.toThrow(why);
  });

  test("a lvl_1L that cannot be is refused", async () => {
    const pair = writePair("bad-levels", {}, (dicts) => {
      const tensor = dicts.var.get("lvl_1L") as PyTensor;
      Buffer.from(tensor.data.buffer, tensor.data.byteOffset).writeBigInt64LE(2n, 8);
    });
    await expect(openCheckpoint(pair)).rejects.toThrow(/lvl_1L\[1\] is 2 after 0/);
  });

  test("a trainer's patch_nums tell them", async () => {
    const { var: transformer, vae } = randomStateDicts({ sides: [1, 2, 3, 8, 9], withoutLevels: true });
    const trainer = { config: { patch_nums: new PyTuple(1, 2, 3, 8, 9) }, var_wo_ddp: transformer, vae_local: vae };
    const path = writeTemporary("patch-nums.pth", torchZip({ trainer }));
    expect((await openCheckpoint(path)).config.sides).toEqual([1, 2, 3, 8, 9]);
  });
});

describe("heads", () => {
  test("default as in the reference, and can be given", async () => {
    const pair = writePair("heads", { l2Norm: false, width: 30, depth: 3 });
    expect((await openCheckpoint(pair)).config.numHeads).toBe(3);
    expect((await openCheckpoint(pair, { heads: 10 })).config.numHeads).toBe(10);
    await expect(openCheckpoint(pair, { heads: 7 })).rejects.toThrow(
      /option "heads": expected a divisor of the width 30/,
    );
  });

  test("no guess where none is possible", async () => {
    const pair = writePair("no-guess", { l2Norm: false, width: 31, depth: 2 });
    await expect(openCheckpoint(pair)).rejects.toThrow(/give the option "heads"/);
  });

  test("what the file tells is not overridden", async () => {
    await expect(openCheckpoint(writePair("told"), { heads: 4 })).rejects.toThrow(/expected 3, the heads of/);
  });
});

describe("refusals", () => {
  const random = new Random(5);
  const refusals: [
    string,
    string,
    (dicts: { var: Map<string, PyValue>; vae: Map<string, PyValue> }) => void,
    RegExp,
  ][] = [
    [
      "a missing tensor",
      "var",
      (d) => d.var.delete("blocks.1.ffn.fc2.bias"),
      /1 tensors are missing: blocks\.1\.ffn\.fc2\.bias/,
    ],
    ["a missing block", "var", (d) => drop(d.var, /^blocks\.0\./), /blocks\.0\.\* are missing/],
    ["no blocks", "var", (d) => drop(d.var, /^blocks\./), /blocks\.0/],
    ["a missing key tensor", "var", (d) => d.var.delete("head.weight"), /tensor head\.weight is missing/],
    [
      "an unexpected tensor",
      "var",
      (d) => d.var.set("blocks.0.attn.extra", random.tensor("F32", [2])),
      /not expected: blocks\.0\.attn\.extra/,
    ],
    [
      "a foreign tensor",
      "var",
      (d) => d.var.set("unet.weight", random.tensor("F32", [2])),
      /unexpected tensors: unet\.weight/,
    ],
    [
      "a wrong shape",
      "var",
      (d) => d.var.set("head.bias", random.tensor("F32", [25])),
      /head\.bias has shape \[25\], \[24\] was expected/,
    ],
    [
      "a wrong rank",
      "vae",
      (d) => d.vae.set("quantize.embedding.weight", random.tensor("F32", [24])),
      /2 dimensions were expected/,
    ],
    [
      "an empty tensor",
      "vae",
      (d) => d.vae.set("quantize.embedding.weight", random.tensor("F32", [0, 6])),
      /shape \[0, 6\]/,
    ],
    [
      "a double",
      "var",
      (d) => d.var.set("pos_start", new PyTensor("F64", [1, 1, 24], new Uint8Array(192))),
      /pos_start has format F64/,
    ],
    [
      "a view beyond its storage",
      "var",
      (d) => d.var.set("head.bias", new PyTensor("F32", [24], new Uint8Array(96), { storageOffset: 1 })),
      /reaches beyond its storage of 24/,
    ],
  ];

  test.each(refusals)("%s", async (name, part, edit, message) => {
    const pair = writePair(name.replaceAll(" ", "-"), {}, edit);
    const opening = openCheckpoint(pair);
    await expect(opening).rejects.toThrow(InvalidCheckpointError);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(part === "var" ? pair.var : pair.tokenizer);
  });

  test("a view into a larger storage is read where it lies", async () => {
    const storage = Buffer.alloc(4 * 30);
    for (let i = 0; i < 30; i++) storage.writeFloatLE(i, 4 * i);
    const pair = writePair("view", {}, (dicts) => {
      dicts.var.set("head.bias", new PyTensor("F32", [24], storage, { storageOffset: 5 }));
    });
    const { tensors, files } = await openCheckpoint(pair);
    const { file, offset } = tensors.find(({ name }) => name === "var.head.bias")!;
    const { readFileSync } = await import("node:fs");
    expect(readFileSync(files[file]!).readFloatLE(offset)).toBe(5);
  });

  test.each<[string, RandomModel, RandomModel, RegExp]>([
    ["codebook size", { codebookSize: 24 }, { codebookSize: 25 }, /codebook differ in size: 24 and 25/],
    ["code width", { codeDim: 6 }, { codeDim: 5 }, /code vectors differ in width: 6 and 5/],
    ["scales", { sides: [1, 2, 4] }, { sides: [1, 2], residualConvs: 0 }, /number of residual convolutions: 3 and 2/],
  ])("a pair that differs in %s", async (name, left, right, message) => {
    const pair = { var: writePair(`${name}-left`, left).var, tokenizer: writePair(`${name}-right`, right).tokenizer };
    await expect(openCheckpoint(pair)).rejects.toThrow(message);
    await expect(openCheckpoint(pair)).rejects.toThrow(/left-var\.pth and .*right-vae\.pth do not belong together/);
  });

  test("a tokenizer trained with another number of scales is only warned about", async () => {
    const pair = {
      var: writePair("three", { sides: [1, 2, 4] }).var,
      tokenizer: writePair("two", { sides: [1, 2] }).tokenizer,
    };
    expect((await openCheckpoint(pair)).warnings.join()).toMatch(/trained with 2 scales, the transformer has 3/);
  });
});

function drop(dict: Map<string, PyValue>, names: RegExp): void {
  for (const name of dict.keys()) if (names.test(name)) dict.delete(name);
}
