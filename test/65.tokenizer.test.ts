/** loadTokenizer: encoding and decoding without a transformer. */

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { convertCheckpoint, openTokenizer } from "../lib/checkpoint/index.js";
import { loadTokenizer } from "../lib/model/load.js";
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

test("the core refuses to generate without a transformer, and stays usable", async () => {
  const { files, tensors, config } = await openTokenizer(vae, { sides: SIDES });
  expect(tensors.every(({ name }) => name.startsWith("vae."))).toBe(true);
  const pool = { kvBytes: 1 << 20, kvDtype: "f32", strategy: "even" } as const;
  const spec = { files, tensors, config, threads: 1, ...pool, cuda: null };
  const alone = await loadBinding().openModel(spec, () => undefined);
  const request = {
    labels: Int32Array.of(0),
    seed: 0n,
    firstImage: 0,
    guidance: new Float32Array(6),
    topK: 0,
    topP: 0,
    depths: new Int32Array(6).fill(1),
    deadlineMs: 0,
    deadlineDepths: new Int32Array(0),
    keepDroppedCache: false,
    wait: true,
    preview: "none",
    forcedTokens: null,
    capture: false,
    losses: false,
  } as const;
  expect(() => alone.generate(request, () => undefined)).toThrow(/a tokenizer alone cannot generate/);
  const tokens = new Int32Array(130);
  await alone.encode(new Float32Array(3 * 32 * 32), tokens);
  expect(tokens.some((token) => token !== 0)).toBe(true);
  await alone.dispose();
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
