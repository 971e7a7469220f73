/** The trained digits model against what the reference returns for it: greedy images, and 500 held-out test images. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { internal } from "../lib/model/internal.js";
import type { Model } from "../lib/model/model.js";
import { Golden, maxDifference, openGolden } from "./support/golden.js";

const golden = new Golden("digits");
let model: Model;
beforeAll(async () => {
  model = await openGolden("digits");
});
afterAll(() => model.dispose());

test("greedy tokens of all ten digits, and their images", async () => {
  const labels = [...golden.i32("greedy/labels")];
  const generation = model.generate({ labels, guidance: 1.5, topK: 1, topP: 0, seed: 0 });
  for await (const event of generation) {
    expect(event.tokens.flatMap((map) => [...map.data])).toEqual([...golden.i32(`greedy/${event.index}/idx`)]);
  }
  const image = new Float32Array(labels.length * 3 * 32 * 32);
  await model[internal].native.tokenizer.decode((await generation.tokens()).flat, image).done;
  expect(maxDifference(image, golden.f32("greedy/image"))).toBeLessThan(1e-4);
});

test("held-out images give the recorded tokens, but for near ties", async () => {
  const grey = golden.i32("heldout/pixels");
  const images = Array.from({ length: 500 }, (_, image) => ({
    width: 32,
    height: 32,
    data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => grey[image * 1024 + Math.floor(i / 3)]!),
  }));
  const tokens = (await model.encode(images)).flat;
  const expected = golden.i32("heldout/tokens");
  const differing = tokens.reduce((total, token, i) => total + (token === expected[i] ? 0 : 1), 0);
  expect(tokens.length).toBe(65_000);
  expect(differing).toBeLessThan(65); // one in a thousand
});

test("held-out cross entropy, token by token", async () => {
  const tokens = golden.i32("heldout/tokens");
  const score = await model.score({ tokens, labels: [...golden.i32("heldout/labels")] });
  expect(maxDifference(score.perToken, golden.f32("heldout/loss_per_token"))).toBeLessThan(1e-3);
  expect(score.mean).toBeCloseTo(2.861, 3);
  expect(score.perScale.map((loss) => Number(loss.toFixed(2)))).toEqual([0.28, 2.72, 2.32, 2.78, 2.9, 2.99]);
});

test("every recorded tensor was compared", () => {
  expect(golden.unasked([])).toEqual([]);
});
