/**
 * Shapes of checkpoints that public reports of other projects name: sets of weights and their averages, wrappers,
 * strides, shards, other families. Recipes: test/reports/README.md, items 6 and 12.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { convertCheckpoint, inspectCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { InvalidCheckpointError, InvalidOptionError, UnsafeCheckpointError } from "../../lib/errors.js";
import { temporaryPath, writePair, writeTemporary } from "../support/checkpoint-files.js";
import { runCli } from "../support/cli.js";
import { PyCall, PyRaw, PyTensor, type PyValue, torchZip } from "../support/pth-writer.js";
import { Random, randomStateDicts } from "../support/random-checkpoint.js";
import { readTensors } from "../support/safetensors.js";

type Dict = Map<string, PyValue>;

const raw = randomStateDicts({ seed: 1 });
const average = randomStateDicts({ seed: 2 });
const scalar = new PyTensor("I64", [], new Uint8Array(8));
const tokenizer = () => writeTemporary("vae.pth", torchZip(raw.vae));

function prefixed(prefix: string, dict: Dict): [string, PyValue][] {
  return [...dict].map(([name, value]) => [`${prefix}${name}`, value]);
}

/** The weights that a file is converted to: those of which state dict? */
async function takenFrom(value: PyValue, weights?: string): Promise<"raw" | "ema" | "neither"> {
  const path = writeTemporary("shape.pth", torchZip(value));
  const output = temporaryPath("shape.safetensors");
  const source = { var: path, tokenizer: tokenizer() };
  await convertCheckpoint({ source, output, ...(weights !== undefined && { weights }) });
  const tensors = readTensors(output);
  const is = (dict: Dict) =>
    Buffer.from((dict.get("head.weight") as PyTensor).data).equals(
      Buffer.from(bytesOf(tensors.get("var.head.weight"))),
    );
  return is(raw.var) ? "raw" : is(average.var) ? "ema" : "neither";
}

function bytesOf(tensor: unknown): Uint8Array {
  const { data } = tensor as { data: Float32Array | Uint8Array };
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

describe("weights and their average", () => {
  const both: [string, PyValue, string, string][] = [
    ["{model, ema}", { model: raw.var, ema: average.var }, "model", "ema"],
    [
      "{state_dict, ema_state_dict}",
      { state_dict: raw.var, ema_state_dict: average.var },
      "state_dict",
      "ema_state_dict",
    ],
    ["{model, model_ema}", { model: raw.var, model_ema: average.var }, "model", "model_ema"],
    ["{params, params_ema}", { params: raw.var, params_ema: average.var }, "params", "params_ema"],
    ["{model, ema: {module}}", { model: raw.var, ema: { module: average.var, decay: 0.999 } }, "model", "ema"],
    [
      "a trainer's var_ema",
      { trainer: { var_wo_ddp: raw.var, var_ema: average.var, var_opt: { state: {} } } },
      "trainer.var_wo_ddp",
      "trainer.var_ema",
    ],
    [
      "prefixes of one dict",
      new Map([
        ...prefixed("ema_model.", average.var),
        ...prefixed("online_model.", raw.var),
        ["initted", scalar],
        ["step", scalar],
      ]),
      "online_model",
      "ema_model",
    ],
    [
      "names without dots",
      {
        state_dict: new Map<string, PyValue>([
          ...prefixed("model.", raw.var),
          ...[...average.var].map(([name, value]): [string, PyValue] => [
            `model_ema.${name.replaceAll(".", "")}`,
            value,
          ]),
          ["model_ema.decay", scalar],
          ["model_ema.num_updates", scalar],
        ]),
      },
      "state_dict.model",
      "state_dict.model_ema",
    ],
    [
      "a list of shadows",
      {
        model: raw.var,
        ema: {
          decay: 0.999,
          shadow_params: [...average.var]
            .filter(([name]) => name !== "lvl_1L" && !name.endsWith("zero_k_bias"))
            .map(([, value]) => value),
        },
      },
      "model",
      "ema.shadow_params",
    ],
  ];

  test.each(both)("%s", async (_, value, rawName, emaName) => {
    expect(await takenFrom(value)).toBe("raw");
    expect(await takenFrom(value, "raw")).toBe("raw");
    expect(await takenFrom(value, "ema")).toBe("ema");
    expect(await takenFrom(value, emaName)).toBe("ema");
    const path = writeTemporary("listed.pth", torchZip(value));
    const info = await inspectCheckpoint(path);
    expect(info.sets).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ part: "transformer", name: rawName, kind: "raw", taken: true }),
        expect.objectContaining({ part: "transformer", name: emaName, kind: "ema", taken: false }),
      ]),
    );
    expect(info.sets).toHaveLength(2);
    const said = info.warnings.filter((line) => line.includes("their average"));
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/the weights are taken; the option weights "ema" takes the average$/);
    expect((await inspectCheckpoint(path, { weights: "ema" })).warnings.join()).not.toContain("average");
    const { stdout } = await runCli(["inspect", path]);
    expect(stdout).toContain(emaName);
    expect(stdout).toMatch(/average \(ema\)/);
  });

  test.each<[string, PyValue]>([
    ["{ema}", { ema: average.var }],
    ["{model_ema}", { model_ema: average.var }],
    ["{state_dict_ema}", { state_dict_ema: average.var }],
    ["n_averaged", new Map([["n_averaged", scalar as PyValue], ...prefixed("module.", average.var)])],
  ])("an average alone: %s", async (_, value) => {
    expect(await takenFrom(value)).toBe("ema");
    const path = writeTemporary("alone.pth", torchZip(value));
    const info = await inspectCheckpoint(path);
    expect(info.sets).toMatchObject([{ kind: "ema", taken: true }]);
    expect(info.warnings.join()).toMatch(/only an average of the weights is there/);
    await expect(inspectCheckpoint(path, { weights: "raw" })).rejects.toThrow(InvalidOptionError);
  });

  test("no average, and a name that is not there, are refused with what is there", async () => {
    const path = writeTemporary("plain.pth", torchZip({ model: raw.var }));
    for (const weights of ["ema", "best"]) {
      const opening = inspectCheckpoint(path, { weights });
      await expect(opening).rejects.toThrow(InvalidOptionError);
      await expect(opening).rejects.toThrow(/weights that are there: model \(transformer, raw\)/);
    }
  });

  test("two sets of one kind are not chosen between in silence", async () => {
    const path = writeTemporary("two.pth", torchZip({ last: raw.var, best: average.var }));
    await expect(inspectCheckpoint(path)).rejects.toThrow(
      /holds 2 sets of weights of a transformer \(last, best\): name one/,
    );
    expect(await takenFrom({ last: raw.var, best: average.var }, "best")).toBe("ema");
  });
});

describe("wrappers", () => {
  const rename = (edit: (name: string) => string): Dict =>
    new Map([...raw.var].map(([name, value]) => [edit(name), value]));
  test.each<[string, Dict]>([
    ["module.", rename((name) => `module.${name}`)],
    ["module._orig_mod.", rename((name) => `module._orig_mod.${name}`)],
    [
      "_fsdp_wrapped_module., on both levels",
      rename((name) => `_fsdp_wrapped_module.${name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module.")}`),
    ],
    [
      "_checkpoint_wrapped_module.",
      rename((name) => name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.")),
    ],
    ["net., as Lightning has it", rename((name) => `net.${name}`)],
  ])("%s", async (_, dict) => {
    expect(await takenFrom({ state_dict: dict })).toBe("raw");
  });

  // What argparse, NumPy and pathlib leave: NEWOBJ and BUILD, or REDUCE.
  const namespace = new PyRaw(Buffer.from("cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sb", "latin1"));
  const float = new PyCall("numpy.core.multiarray.scalar", [
    new PyCall("numpy.dtype", ["f8", false, true]),
    "12345678",
  ]);
  test.each<[string, PyValue]>([
    ["an argparse.Namespace", namespace],
    ["a number of NumPy's", float],
    ["a path", new PyCall("pathlib.PosixPath", ["a", "b"])],
    ["a set", new PyCall("builtins.set", [[1, 2]])],
  ])("%s beside the weights stays opaque", async (_, value) => {
    expect(await takenFrom({ model: raw.var, args: value, best: [value] })).toBe("raw");
  });

  test("what would have to be called in another way is refused", async () => {
    const path = writeTemporary("called.pth", torchZip({ model: raw.var, args: new PyCall("argparse.Namespace", []) }));
    await expect(inspectCheckpoint(path)).rejects.toThrow(UnsafeCheckpointError);
  });
});

describe("strides", () => {
  /** The same numbers, stored in another order of the dimensions. */
  function stored(tensor: PyTensor, order: number[]): PyTensor {
    const { shape } = tensor;
    const strides: number[] = new Array(shape.length);
    let step = 1;
    for (const axis of [...order].reverse()) {
      strides[axis] = step;
      step *= shape[axis]!;
    }
    const from = new DataView(tensor.data.buffer, tensor.data.byteOffset);
    const data = new Uint8Array(tensor.data.length);
    const to = new DataView(data.buffer);
    for (let index = 0; index < data.length / 4; index++) {
      let rest = index;
      let at = 0;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at += (rest % shape[axis]!) * strides[axis]!;
        rest = Math.floor(rest / shape[axis]!);
      }
      to.setUint32(4 * at, from.getUint32(4 * index));
    }
    return new PyTensor(tensor.format, shape, data, { strides });
  }

  test("transposed, channels-last and expanded tensors read as what they mean", async () => {
    const plain = temporaryPath("plain.safetensors");
    const strided = temporaryPath("strided.safetensors");
    const zeros = new PyTensor("F32", [24], new Uint8Array(96));
    const edit = (dict: Dict) => dict.set("head.bias", zeros);
    await convertCheckpoint({ source: writePair("plain", {}, (dicts) => edit(dicts.var)), output: plain });
    const pair = writePair("strided", {}, (dicts) => {
      for (const [name, value] of dicts.vae)
        if (value instanceof PyTensor && value.shape.length === 4) dicts.vae.set(name, stored(value, [0, 2, 3, 1]));
      dicts.var.set("head.weight", stored(dicts.var.get("head.weight") as PyTensor, [1, 0]));
      dicts.var.set("head.bias", new PyTensor("F32", [24], new Uint8Array(4), { strides: [0] }));
    });
    await convertCheckpoint({ source: pair, output: strided });
    expect(readFileSync(strided).equals(readFileSync(plain))).toBe(true);
  });

  test("a few numbers spread over a whole storage are not worth reading it", async () => {
    const data = new Uint8Array(4 * 24 * 2 ** 18);
    const pair = writePair("spread", {}, (dicts) =>
      dicts.var.set("head.bias", new PyTensor("F32", [24], data, { strides: [2 ** 18] })),
    );
    await expect(openCheckpoint(pair)).rejects.toThrow(/head\.bias \[24\] is not contiguous .*save tensor\.contiguous/);
  });
});

describe("shards", () => {
  /** A converted model in two files and an index; `edit` changes the index. */
  async function sharded(
    name: string,
    edit: (index: { weight_map: Record<string, unknown> }) => unknown = (index) => index,
  ) {
    const whole = temporaryPath(`${name}-whole.safetensors`);
    await convertCheckpoint({ source: writePair(name), output: whole });
    const bytes = readFileSync(whole);
    const length = Number(bytes.readBigUInt64LE(0));
    const { __metadata__: metadata, ...header } = JSON.parse(bytes.toString("utf8", 8, 8 + length));
    const folder = join(dirname(whole), `${name}-shards`);
    mkdirSync(folder, { recursive: true });
    const names = Object.keys(header);
    const halves = [names.slice(0, names.length / 2), names.slice(names.length / 2)];
    const weightMap: Record<string, unknown> = {};
    for (const [index, half] of halves.entries()) {
      const file = `model-0000${index + 1}-of-00002.safetensors`;
      const kept: Record<string, unknown> = index === 0 ? { __metadata__: metadata } : {};
      const parts: Buffer[] = [];
      let at = 0;
      for (const tensor of half) {
        const [begin, end] = header[tensor].data_offsets;
        kept[tensor] = { ...header[tensor], data_offsets: [at, at + end - begin] };
        parts.push(bytes.subarray(8 + length + begin, 8 + length + end));
        at += end - begin;
        weightMap[tensor] = file;
      }
      const json = Buffer.from(JSON.stringify(kept));
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(BigInt(json.length));
      writeFileSync(join(folder, file), Buffer.concat([size, json, ...parts]));
    }
    const path = join(folder, "model.safetensors.index.json");
    writeFileSync(path, JSON.stringify(edit({ weight_map: weightMap })));
    return { whole, path };
  }

  test("an index opens its files as one model", async () => {
    const { whole, path } = await sharded("good");
    const [one, many] = [await openCheckpoint(whole), await openCheckpoint(path)];
    expect(many.files).toHaveLength(2);
    expect(many.config).toEqual(one.config);
    expect(many.tensors.map(({ name }) => name).sort()).toEqual(one.tensors.map(({ name }) => name).sort());
    const again = temporaryPath("again.safetensors");
    await convertCheckpoint({ source: path, output: again });
    const [a, b] = [readTensors(whole), readTensors(again)];
    expect([...b.keys()].sort()).toEqual([...a.keys()].sort());
    for (const [name, tensor] of a)
      expect(Buffer.from(bytesOf(b.get(name))).equals(Buffer.from(bytesOf(tensor)))).toBe(true);
  });

  test.each<[string, (map: Record<string, unknown>) => unknown, RegExp]>([
    [
      "a way out of the folder",
      (map) => ({ ...map, "var.head.bias": "../good-shards/x.safetensors" }),
      /in the same folder/,
    ],
    ["an absolute path", (map) => ({ ...map, "var.head.bias": "/etc/passwd" }), /in the same folder/],
    ["a number", (map) => ({ ...map, "var.head.bias": 7 }), /in the same folder/],
    ["an empty map", () => ({}), /weight_map is empty/],
    ["no map", () => undefined, /no weight_map/],
    [
      "a shard that lacks a tensor",
      (map) => ({ ...map, "var.more": "model-00001-of-00002.safetensors" }),
      /which is not there/,
    ],
    [
      "too many files",
      () => Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `f${i}`])),
      /1001 files/,
    ],
  ])("%s is refused", async (_, edit, message) => {
    const { path } = await sharded("bad", ({ weight_map }) => ({ weight_map: edit(weight_map) }));
    await expect(openCheckpoint(path)).rejects.toThrow(InvalidCheckpointError);
    await expect(openCheckpoint(path)).rejects.toThrow(message);
  });

  test("a missing shard is a missing file", async () => {
    const { path } = await sharded("gone", ({ weight_map }) => ({
      weight_map: { ...weight_map, x: "gone.safetensors" },
    }));
    await expect(openCheckpoint(path)).rejects.toMatchObject({ code: "IO" });
  });
});

describe("what is named instead of misread", () => {
  const random = new Random(5);
  const small = (names: string[]): PyValue => new Map(names.map((name) => [name, random.tensor("F32", [2, 2])]));
  const without = (name: string, ...more: string[]): PyValue =>
    new Map([
      ...[...raw.var].filter(([key]) => key !== name),
      ...more.map((key): [string, PyValue] => [key, random.tensor("F32", [4, 4])]),
    ]);
  test.each<[string, PyValue, RegExp]>([
    [
      "Infinity",
      small([
        "cfg_uncond",
        "text_proj_for_ca.0.weight",
        "pos_start",
        "lvl_embed.weight",
        "word_embed.weight",
        "block_chunks.0.module.0.sa.mat_qkv.weight",
        "head.weight",
      ]),
      /checkpoint of Infinity .*lacks a text encoder/,
    ],
    [
      "Switti",
      small([
        "word_embed.weight",
        "text_pooler.weight",
        "pos_start",
        "blocks.0.cross_attn.to_q.weight",
        "crop_embed.weight",
        "head.weight",
      ]),
      /checkpoint of Switti/,
    ],
    [
      "HART",
      small(["context_embed.weight", "diffloss.net.0.weight", "word_embed.weight", "blocks.0.attn.qkv_proj.weight"]),
      /checkpoint of HART/,
    ],
    ["VAR-CLIP", without("class_emb.weight", "cond_proj.weight", "noise.weight"), /checkpoint of VAR-CLIP/],
    ["STAR", without("class_emb.weight", "text_proj.weight", "blocks.0.cross_attn.mat_q.weight"), /checkpoint of STAR/],
    ["FlexVAR", without("lvl_embed.weight"), /no tensor lvl_embed\.weight, as FlexVAR/],
    ["a BSQ tokenizer", { vae: small(["encoder.conv_in.weight", "quantizer.lfq.mask"]) }, /binary codes/],
    ["LlamaGen", { model: small(["tok_embeddings.weight", "layers.0.attention.wqkv.weight"]) }, /LlamaGen/],
    ["DiT", { ema: small(["x_embedder.proj.weight"]) }, /diffusion transformer/],
    ["FSDP's flat shards", small(["_fsdp_wrapped_module._flat_param"]), /flattened, as FSDP/],
    [
      "LoRA",
      small(["blocks.0.attn.proj.lora_A.default.weight", "blocks.0.attn.proj.lora_B.default.weight"]),
      /LoRA adapter/,
    ],
    [
      "ZeRO-3",
      { module: new Map([...raw.var.keys()].map((name) => [name, new PyTensor("F32", [0], new Uint8Array(0))])) },
      /placeholders, as DeepSpeed's ZeRO-3/,
    ],
  ])("%s", async (_, value, message) => {
    const path = writeTemporary("other.pth", torchZip(value));
    await expect(inspectCheckpoint(path)).rejects.toThrow(InvalidCheckpointError);
    await expect(inspectCheckpoint(path)).rejects.toThrow(message);
    const { code, stderr } = await runCli(["inspect", path]);
    expect(code).not.toBe(0);
    expect(stderr).not.toContain("nextscale inspect");
  });

  test.each<[string, string[], RegExp]>([
    ["a distributed checkpoint", ["__0_0.distcp", ".metadata"], /dcp_to_torch makes one file/],
    ["DeepSpeed", ["latest", "zero_to_fp32.py"], /zero_to_fp32\.py makes one file/],
    [
      "a set of shards",
      ["config.json", "model.safetensors.index.json"],
      /such as its model\.safetensors\.index\.json$/,
    ],
    ["something else", ["a.txt"], /a checkpoint file was expected$/],
  ])("a folder of %s", async (name, files, message) => {
    const folder = temporaryPath(name.replaceAll(" ", "-"));
    mkdirSync(folder);
    for (const file of files) writeFileSync(join(folder, file), "x");
    await expect(inspectCheckpoint(folder)).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(message),
    });
  });

  test("a TorchScript archive", async () => {
    const bytes = torchZip(raw.var, {
      edit: (entries) => [
        ...entries,
        { name: "archive/constants.pkl", data: Buffer.from("\x80\x02).", "latin1") },
        { name: "archive/code/__torch__/model.py", data: Buffer.from("x") },
      ],
    });
    const path = writeTemporary("script.pt", bytes);
    await expect(inspectCheckpoint(path)).rejects.toThrow(
      /TorchScript archive \(torch\.jit\.save\).*save model\.state_dict\(\)/,
    );
  });

  test("a number of heads that is a guess is said to be one, for a pair and for a transformer alone", async () => {
    const pair = writePair("guess", { l2Norm: false, width: 128, depth: 2 });
    for (const source of [pair, pair.var]) {
      const { warnings } = await inspectCheckpoint(source);
      expect(warnings.join()).toMatch(/does not tell its number of heads: 2 assumed/);
    }
    expect((await runCli(["inspect", pair.var])).stdout).toMatch(/warning: .*number of heads/);
    expect((await openCheckpoint(pair, { heads: 2 })).warnings).toEqual([]);
  });
});
