/** Bad options, one line each: what is given, which option is blamed, what the sentence must contain. */

import { describe, expect, test } from "vitest";
import { InvalidOptionError } from "../lib/errors.js";
import { loadModel } from "../lib/model/load.js";
import type { GenerateOptions } from "../lib/options/generate.js";
import type { LoadOptions, ModelSource } from "../lib/options/load.js";
import { fakeModel } from "./support/fake-engine.js";
import { rejection } from "./support/rejections.js";

type Row = [option: string, value: unknown, sentence: RegExp];

const GENERATE: [unknown, string, RegExp][] = [
  [null, "options", /found null/],
  [7, "options", /an object, found 7/],
  [[], "options", /an array of 0/],
  [{ guidence: 2 }, "guidence", /did you mean "guidance"/],
  [{ top_k: 5 }, "top_k", /did you mean "topK"/],
  [{ zebra: 5 }, "zebra", /one of labels, seed/],
  [{ labels: 11 }, "labels", /class number|0\.\.10, found 11/],
  [{ labels: -1 }, "labels", /found -1/],
  [{ labels: 1.5 }, "labels", /found 1.5/],
  [{ labels: [] }, "labels", /found an array of 0/],
  [{ labels: [1, Number.NaN] }, "labels[1]", /found NaN/],
  [{ labels: null }, "labels", /undefined for the default/],
  [{ labels: "sevn" }, "labels", /did you mean "seven"/],
  [{ labels: "deux" }, "labels", /classes 2 and 6/],
  [{ labels: { a: 1 } }, "labels", /found "a"/],
  [{ seed: -1 }, "seed", /found -1/],
  [{ seed: 1.5 }, "seed", /found 1.5/],
  [{ seed: 2 ** 60 }, "seed", /2\^53-1/],
  [{ seed: 2n ** 64n }, "seed", /18446744073709551616n/],
  [{ seed: "42" }, "seed", /found "42"/],
  [{ guidance: "2" }, "guidance", /found "2"/],
  [{ guidance: Number.POSITIVE_INFINITY }, "guidance", /Infinity/],
  [{ guidance: -1 }, "guidance", /found -1/],
  [{ guidance: [1, 2] }, "guidance", /4 of them/],
  [{ guidance: [1, 2, 3, Number.NaN] }, "guidance[3]", /NaN/],
  [{ topK: 33 }, "topK", /0\.\.32, found 33/],
  [{ topK: -1 }, "topK", /found -1/],
  [{ topK: 1.5 }, "topK", /found 1.5/],
  [{ topP: 1.1 }, "topP", /0\.\.1, found 1.1/],
  [{ topP: Number.NaN }, "topP", /NaN/],
  [{ depth: 1 }, "depth", /2\.\.8, found 1/],
  [{ depth: 9 }, "depth", /2\.\.8, found 9/],
  [{ depth: 2.5 }, "depth", /found 2.5/],
  [{ depth: "8" }, "depth", /found "8"/],
  [{ depth: null }, "depth", /found null/],
  [{ depth: [8, 8] }, "depth", /4 of them/],
  [{ depth: [8, 8, 8, 0] }, "depth[3]", /found 0/],
  [{ depth: { bridge: 2 } }, "depth.subnet", /found undefined/],
  [{ depth: { bridge: 5, subnet: 4 } }, "depth.bridge", /0\.\.4, found 5/],
  [{ depth: { bridge: -1, subnet: 4 } }, "depth.bridge", /found -1/],
  [{ depth: { brigde: 2, subnet: 4 } }, "depth.brigde", /did you mean "bridge"/],
  [{ depth: { subnet: 4, depths: [4] } }, "depth.depths", /deadlineMs/],
  [{ depth: { deadlineMs: 0 } }, "depth.deadlineMs", /found 0/],
  [{ depth: { deadlineMs: "1" } }, "depth.deadlineMs", /found "1"/],
  [{ depth: { deadlineMs: 5, subnet: 4 } }, "depth.subnet", /no subnet/],
  [{ depth: { deadlineMs: 5, depths: [] } }, "depth.depths", /non-empty/],
  [{ depth: { deadlineMs: 5, depths: [1] } }, "depth.depths[0]", /found 1/],
  [{ keepDroppedCache: 1 }, "keepDroppedCache", /true or false/],
  [{ wait: "no" }, "wait", /true or false/],
  [{ preview: "yes" }, "preview", /"none", "linear", "decode"/],
  [{ signal: {} }, "signal", /an AbortSignal/],
];

describe("model.generate refuses", () => {
  test.each(GENERATE)("%o", (options, option, sentence) => {
    const { model, engine } = fakeModel();
    try {
      model.generate(options as GenerateOptions);
      expect.unreachable("nothing was thrown");
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidOptionError);
      expect(error).toMatchObject({ code: "INVALID_OPTION", option });
      expect((error as Error).message).toMatch(sentence);
      expect((error as Error).stack).toContain("70.refusals.test.ts");
    }
    expect(engine.requests).toEqual([]);
  });
});

const LOAD: Row[] = [
  ["device", "gpu", /"auto", "cpu", "cuda"/],
  ["threads", 0, /found 0/],
  ["threads", 1.5, /found 1.5/],
  ["kvPool", 5, /an object/],
  ["strategy", "odd", /"even", "nested"/],
  ["heads", 0, /found 0/],
  ["sides", [1, 1], /ascending/],
  ["sides", [], /non-empty/],
  ["sides", 4, /found 4/],
  ["residualMix", 2, /0\.\.1/],
  ["nativeBinding", "", /non-empty/],
  ["onProgress", 1, /a function/],
  ["onEvent", {}, /a function/],
  ["signal", "stop", /an AbortSignal/],
  ["thread", 2, /did you mean "threads"/],
];

describe("loadModel refuses", () => {
  test.each(LOAD)("%s: %o", async (option, value, sentence) => {
    const error = await rejection(loadModel(undefined, { [option]: value } as LoadOptions));
    expect(error).toMatchObject({ code: "INVALID_OPTION", option });
    expect(error.message).toMatch(sentence);
  });

  test.each([
    [{ bytes: 0 }, "kvPool.bytes"],
    [{ bytes: 1.5 }, "kvPool.bytes"],
    [{ dtype: "f64" }, "kvPool.dtype"],
    [{ byte: 1 }, "kvPool.byte"],
  ])("kvPool %o", async (kvPool, option) => {
    expect(await rejection(loadModel(undefined, { kvPool } as LoadOptions))).toMatchObject({ option });
  });

  test.each([
    [7, "source"],
    [null, "source"],
    ["", "source"],
    [{ var: "a.pth" }, "source.tokenizer"],
    [{ var: 1, tokenizer: "b" }, "source.var"],
    [{ var: "a", tokenizer: "b", vae: "c" }, "source.vae"],
  ])("source %o", async (source, option) => {
    expect(await rejection(loadModel(source as ModelSource))).toMatchObject({ code: "INVALID_OPTION", option });
  });

  test.each(["cuda", "cuda:1"] as const)("device %s, with the reason", async (device) => {
    const error = await rejection(loadModel(undefined, { device }));
    expect(error).toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      device,
      reason: expect.stringMatching(/CUDA|driver|there are/),
    });
  });

  test("an aborted signal", async () => {
    const error = await rejection(loadModel(undefined, { signal: AbortSignal.abort("no") }));
    expect(error).toMatchObject({ name: "AbortError", code: "ABORTED", cause: "no" });
  });
});

describe("encode, decode, score and setDepth refuse", () => {
  const { model } = fakeModel();
  const data = new Uint8Array(192);

  test.each([
    [undefined, "image"],
    [[], "image"],
    [{ width: 8, height: 8 }, "image.data"],
    [{ width: 8, height: 8, data: [...data] }, "image.data"],
    [{ width: 7, height: 8, data }, "image"],
    [{ width: 8, height: 8, data: data.subarray(1) }, "image.data"],
    [[{ width: 8, height: 8, data }, null], "image[1]"],
  ])("encode, case %#", async (image, option) => {
    expect(await rejection(model.encode(image as never))).toMatchObject({ code: "INVALID_OPTION", option });
  });

  test.each([
    [undefined, "tokens"],
    [[1, 2], "tokens"],
    [new Int32Array(0), "tokens"],
    [new Int32Array(31), "tokens"],
    [new Int32Array(30).fill(32, 7), "tokens[7]"],
    [new Int32Array(30).fill(-1), "tokens[0]"],
  ])("decode, case %#", async (tokens, option) => {
    expect(await rejection(model.decode(tokens as never))).toMatchObject({ code: "INVALID_OPTION", option });
  });

  const tokens = new Int32Array(60);
  test.each([
    [undefined, "options"],
    [{ tokens }, "labels"],
    [{ labels: 1 }, "tokens"],
    [{ tokens, labels: [1, 2, 3] }, "labels"],
    [{ tokens, labels: 1, depth: { deadlineMs: 5 } }, "depth"],
    [{ tokens, labels: 1, guidance: 1 }, "guidance"],
  ])("score, case %#", async (options, option) => {
    expect(await rejection(model.score(options as never))).toMatchObject({ code: "INVALID_OPTION", option });
  });

  test("a depth that the model does not have", async () => {
    const generation = model.generate();
    for (const depth of [0, 1, 9, 2.5, Number.NaN, "4", undefined]) {
      expect(() => generation.setDepth(depth as number)).toThrowError(InvalidOptionError);
    }
    expect(() => model.setDepth(1)).toThrowError(InvalidOptionError);
    await generation.images();
  });
});
