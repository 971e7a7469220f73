/** No call may hold the event loop for more than 5 ms. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import { blockedMs } from "./support/event-loop.js";
import { goldenPath, openGolden } from "./support/golden.js";

const LIMIT_MS = 5;

test("the measure sees a planted block", async () => {
  const block = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    const start = performance.now();
    while (performance.now() - start < 40); // of which a busy machine leaves us a part
  };
  expect(await blockedMs(block, LIMIT_MS)).toBeGreaterThan(LIMIT_MS);
});

describe("held for less than 5 ms by", () => {
  const labels = Array.from({ length: 32 }, (_, i) => i % 10);
  let model: Model;
  beforeAll(async () => {
    model = await openGolden("digits", "var.pth", { threads: 1 }); // a core for the event loop that is measured
    await model.generate({ labels, preview: "linear" }).images();
  });
  afterAll(() => model.dispose());

  test("loading a pair and disposing of it", async () => {
    const source = { var: goldenPath("digits", "var.pth"), tokenizer: goldenPath("digits", "vae.pth") };
    const work = async () => (await loadModel(source, { threads: 1 })).dispose();
    expect(await blockedMs(work, LIMIT_MS)).toBeLessThan(LIMIT_MS);
  });

  test("generating 32 images with previews", async () => {
    const work = () => model.generate({ labels, preview: "linear" }).images();
    expect(await blockedMs(work, LIMIT_MS)).toBeLessThan(LIMIT_MS);
  });

  test("encoding, decoding and scoring 32 images", async () => {
    const images = await model.generate({ labels }).images();
    const work = async () => {
      const tokens = await model.encode(images);
      await model.decode(tokens);
      await model.score({ tokens, labels });
    };
    expect(await blockedMs(work, LIMIT_MS)).toBeLessThan(LIMIT_MS);
  });

  test("cancelling", async () => {
    const work = async () => {
      for await (const scale of model.generate({ labels })) if (scale.index === 2) break;
    };
    expect(await blockedMs(work, LIMIT_MS)).toBeLessThan(LIMIT_MS);
  });
});
