/** loadTokenizer: encoding and decoding without a transformer. */

import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { convertCheckpoint, openTokenizer } from "../lib/checkpoint/index.js";
import { internal } from "../lib/model/internal.js";
import { loadTokenizer } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import { loadBinding } from "../lib/native/binding.js";
import { Golden, goldenPath, openGolden } from "./support/golden.js";
import { scratch } from "./support/token-files.js";

const SIDES = [1, 2, 3, 4, 6, 8];
const vae = goldenPath("digits", "vae.pth");
const golden = new Golden("digits");

/** The first held-out digits as RGB. */
function pictures(count: number) {
  const grey = golden.i32("heldout/pixels");
  return Array.from({ length: count }, (_, image) => ({
    width: 32,
    height: 32,
    data: Uint8Array.from({ length: 3072 }, (_, i) => grey[image * 1024 + Math.floor(i / 3)]!),
  }));
}

test("its tokens and images are those of the whole model, wherever it comes from", async () => {
  const model = await openGolden("digits");
  const output = join(scratch(), "digits.safetensors");
  await convertCheckpoint({ source: { var: goldenPath("digits", "var.pth"), tokenizer: vae }, output });
  const images = pictures(3);
  const expected = await model.encode(images);
  const decoded = await model.decode(expected);
  const sources = [
    { source: vae, sides: SIDES },
    { source: { tokenizer: vae }, sides: SIDES },
    { source: { tokenizer: vae, var: goldenPath("digits", "var.pth") } },
    { source: output },
    { source: undefined },
  ];
  for (const { source, sides } of sources) {
    const tokenizer = await loadTokenizer(source, { threads: 2, ...(sides && { sides }) });
    expect(tokenizer.tokenizerFingerprint).toBe(model.tokenizerFingerprint);
    const { numTokens, imageSide, codebookSize, codeDim } = model.architecture;
    expect(tokenizer.architecture).toMatchObject({ sides: SIDES, numTokens, imageSide, codebookSize, codeDim });
    expect(tokenizer.architecture).not.toHaveProperty("depth");
    const tokens = await tokenizer.encode(images);
    expect(tokens.flat).toEqual(expected.flat);
    const back = await tokenizer.decode(tokens);
    expect(back.map(({ data }) => data)).toEqual(decoded.map(({ data }) => data));
    await tokenizer.dispose();
    await expect(tokenizer.encode(images)).rejects.toMatchObject({ code: "DISPOSED" });
  }
  await model.dispose();
});

test("the core opens it without a transformer: no config of one, no pool", async () => {
  const { files, tensors, config } = await openTokenizer(vae, { sides: SIDES });
  expect(tensors.every(({ name }) => name.startsWith("vae."))).toBe(true);
  expect(config).not.toHaveProperty("depth");
  const alone = await loadBinding().openTokenizer({ files, tensors, config, threads: 1, cuda: null });
  expect(alone).not.toHaveProperty("generate");
  const tokens = new Int32Array(130);
  await alone.encode(new Float32Array(3 * 32 * 32), tokens).done;
  expect(tokens.some((token) => token !== 0)).toBe(true);
  expect(() => alone.decode(tokens.slice().fill(512, 7, 8), new Float32Array(3 * 32 * 32))).toThrowError(/found 512/);
  await alone.dispose();
  expect(() => alone.encode(new Float32Array(3 * 32 * 32), tokens)).toThrowError(/disposed/);
});

test("a model has one, which lives as long as the model", async () => {
  const model = await openGolden("digits");
  const images = pictures(2);
  const tokens = await model.tokenizer.encode(images);
  expect(tokens.flat).toEqual((await model.encode(images)).flat);
  expect(model.tokenizer.tokenizerFingerprint).toBe(model.tokenizerFingerprint);
  expect(model.tokenizer.architecture).not.toHaveProperty("depth");
  await model.tokenizer.dispose(); // not its to end
  expect(model.tokenizer.disposed).toBe(false);
  expect((await model.tokenizer.decode(tokens)).length).toBe(2);
  expect(() => model[internal].native.tokenizer.dispose()).toThrowError(/with the model/);
  await model.dispose();
  expect(model.tokenizer.disposed).toBe(true);
  await expect(model.tokenizer.encode(images)).rejects.toMatchObject({ code: "DISPOSED" });
});

describe("what nobody wants any more stops, counted in pictures", () => {
  const COUNT = 500;

  /**
   * Waits until the core has begun a picture of a job, aborts, and returns how many were begun when the core is idle.
   */
  async function abortMidway(model: Model, work: Promise<unknown>, stop: AbortController, before: number) {
    const { native } = model[internal];
    const ended = expect(work).rejects.toMatchObject({ code: "ABORTED", cause: "enough" });
    while (native.stats().jobParts === before) await setImmediate();
    stop.abort("enough");
    const begun = native.stats().jobParts;
    await ended;
    while (native.stats().jobs > 0) await setImmediate();
    expect(native.stats().jobParts).toBeLessThanOrEqual(begun + 1);
    expect(native.stats().jobParts - before).toBeLessThan(COUNT);
    return native.stats().jobParts;
  }

  test("pictures of a generation, decoding, encoding", async () => {
    const model = await openGolden("digits");
    const signalled = () => {
      const stop = new AbortController();
      return { stop, options: { signal: stop.signal } };
    };
    const first = signalled();
    const generation = model.generate({ labels: Array(COUNT).fill(1), depth: 2, guidance: 0, ...first.options });
    const tokens = await generation.tokens();
    let begun = await abortMidway(model, generation.images(), first.stop, 0);
    const second = signalled();
    begun = await abortMidway(model, model.decode(tokens, second.options), second.stop, begun);
    const third = signalled();
    const images = Array(COUNT).fill(pictures(1)[0]!);
    await abortMidway(model, model.encode(images, third.options), third.stop, begun);
    const fourth = AbortSignal.abort("before");
    await expect(model.decode(tokens, { signal: fourth })).rejects.toMatchObject({ code: "ABORTED", cause: "before" });
    await model.dispose();
  });

  test("disposal does not wait for the pictures that are left", async () => {
    const tokenizer = await loadTokenizer(undefined, { threads: 1 });
    const decoding = tokenizer.decode(new Int32Array(COUNT * 130));
    const ended = expect(decoding).rejects.toMatchObject({ code: expect.stringMatching(/ABORTED|DISPOSED/) });
    await tokenizer.dispose();
    await ended;
  });
});

describe("refusals", () => {
  const refused = (source: unknown, options: object, error: object) =>
    expect(loadTokenizer(source as never, options)).rejects.toMatchObject(error);

  test("sides", async () => {
    await refused(vae, {}, { code: "INVALID_OPTION", option: "sides", expected: expect.stringContaining("6 of them") });
    await refused(vae, { sides: [1, 2, 3] }, { code: "INVALID_OPTION", option: "sides" });
    await refused(vae, { sides: [1, 2, 3, 4, 8, 6] }, { code: "INVALID_OPTION", option: "sides" });
  });

  test("sources and options", async () => {
    await refused(goldenPath("digits", "var.pth"), {}, { code: "INVALID_CHECKPOINT" });
    await refused({ tokenizer: goldenPath("digits", "var.pth") }, {}, { code: "INVALID_CHECKPOINT" });
    await refused({ var: vae }, {}, { code: "INVALID_OPTION", option: "source.tokenizer" });
    await refused([vae], {}, { code: "INVALID_OPTION", option: "source" });
    await refused(vae, { sides: SIDES, heads: 2 }, { code: "INVALID_OPTION", option: "heads" });
    await refused(vae, { sides: SIDES, device: "cuda" }, { code: "DEVICE_UNAVAILABLE" });
    await refused(join(scratch(), "nowhere"), { sides: SIDES }, { code: "IO" });
    await refused(vae, { sides: SIDES, signal: AbortSignal.abort() }, { code: "ABORTED" });
  });
});
