/** What the facade promises of the real engine: cancelling, several models, seeds, batches, previews, the pool. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { internal } from "../lib/internal.js";
import { loadModel } from "../lib/load.js";
import type { Model } from "../lib/model.js";
import type { GenerateOptions } from "../lib/types.js";
import { goldenPath, maxDifference, openGolden } from "./support/golden.js";
import { rejection } from "./support/rejections.js";

let model: Model;
beforeAll(async () => {
  model = await openGolden("digits");
});
afterAll(() => model.dispose());

const draw = async (from: Model, options: GenerateOptions) => [...(await from.generate(options).tokens()).flat];

describe("seeds", () => {
  const options = { labels: [3], seed: 42, guidance: 2 };

  test("the same seed draws the same tokens, another one others", async () => {
    const first = await draw(model, options);
    expect(await draw(model, options)).toEqual(first);
    expect(await draw(model, { ...options, seed: 42n })).toEqual(first);
    expect(await draw(model, { ...options, seed: 43 })).not.toEqual(first);
  });

  test("whatever else runs, and with any number of threads", async () => {
    const alone = await draw(model, options);
    const others = Array.from({ length: 5 }, (_, i) => draw(model, { labels: [i, 9], depth: 3 + i }));
    expect(await draw(model, options)).toEqual(alone);
    await Promise.all(others);
    const single = await openGolden("digits", "var.pth", { threads: 1 });
    expect(await draw(single, options)).toEqual(alone);
    await single.dispose();
  });
});

describe("cancelling", () => {
  test.each([0, 1, 2, 3, 4, 5])("abort at scale %i frees the pool and leaves the neighbour as it was", async (at) => {
    const calm = { labels: [1, 2], seed: 7, depth: 4 };
    const expected = await draw(model, calm);
    const controller = new AbortController();
    const generation = model.generate({ labels: Array(8).fill(5), signal: controller.signal });
    const neighbour = draw(model, calm);
    const error = await rejection(
      (async () => {
        for await (const scale of generation) if (scale.index === at) controller.abort();
        await generation.images();
      })(),
    );
    expect(error).toMatchObject({ name: "AbortError", code: "ABORTED" });
    expect(await neighbour).toEqual(expected);
    await generation[Symbol.asyncDispose]();
    expect(model.stats()).toMatchObject({ running: 0, waiting: 0, pool: { usedBytes: 0, reservedBytes: 0 } });
  });
});

test("two models at once, with different shapes, do not disturb each other", async () => {
  const tiny = await openGolden("tiny");
  const options = { labels: 3, seed: 5 };
  const alone = [await draw(model, options), await draw(tiny, options)];
  const together = await Promise.all([draw(model, options), draw(tiny, options), draw(model, { labels: [1, 2, 3] })]);
  expect(together.slice(0, 2)).toEqual(alone);
  await tiny.dispose();
  expect(await draw(model, options)).toEqual(alone[0]);
});

describe("depth", () => {
  test("events say the depth that ran, and setDepth takes effect at a later scale", async () => {
    const generation = model.generate({ labels: 4, depth: { bridge: 2, subnet: 6 } });
    const depths: number[] = [];
    for await (const scale of generation) {
      depths.push(scale.depth);
      if (scale.index === 0) generation.setDepth(3);
    }
    expect(depths[0]).toBe(8);
    expect(depths.at(-1)).toBe(3);
  });

  test("a deadline that cannot be met is reported as late and still finishes", async () => {
    const reasons = new Set<string>();
    for await (const scale of model.generate({ labels: Array(16).fill(1), depth: { deadlineMs: 0.01 } }))
      reasons.add(scale.reason);
    expect(reasons).toContain("late");
  });
});

describe("the pool", () => {
  test("a plan that can never fit fails at once and says what would", async () => {
    const full = model.peakBytes(8);
    const small = await openGolden("digits", "var.pth", { kvPool: { bytes: model.peakBytes(4) } });
    const error = await rejection(small.generate({ labels: 1, depth: 8 }).images());
    expect(error).toMatchObject({ name: "PoolExhaustedError", code: "POOL_EXHAUSTED", neededBytes: full });
    expect((error as unknown as { deepestFit: number }).deepestFit).toBeLessThan(8);
    expect((await small.generate({ labels: 1, depth: 4 }).images()).length).toBe(1);
    await small.dispose();
  });

  test("without room: wait: true waits in line, wait: false fails", async () => {
    const small = await openGolden("digits", "var.pth", { kvPool: { bytes: model.peakBytes(8) } });
    const first = small.generate({ labels: 1 });
    const second = small.generate({ labels: 2 });
    const third = small.generate({ labels: 3, wait: false });
    expect(await rejection(third.images())).toMatchObject({ code: "POOL_EXHAUSTED" });
    expect((await Promise.all([first.images(), second.images()])).length).toBe(2);
    expect(small.pool.peakBytes).toBeLessThanOrEqual(small.pool.capacityBytes);
    await small.dispose();
  });
});

describe("previews", () => {
  test("the last linear preview is close to the picture, reduced to its size", async () => {
    const generation = model.generate({ labels: [0, 1, 2, 3], seed: 1, preview: "linear" });
    let last: Uint8ClampedArray[] = [];
    let side = 0;
    for await (const { previews } of generation) {
      last = previews!.map(({ data }) => data);
      side = previews![0]!.width;
    }
    const images = await generation.images();
    // Of one latent position a linear map can know no more than part of the picture: it must explain well above a third of
    // what varies. Of a wrong matrix, or one position off, nothing is left (the ratio is 1 or more).
    let error = 0;
    let variance = 0;
    for (const [i, image] of images.entries()) {
      const reduced = reduce(image.data, image.width, side);
      const mean = reduced.reduce((sum, value) => sum + value, 0) / reduced.length;
      error += meanSquare(reduced, last[i]!);
      variance += meanSquare(reduced, new Uint8ClampedArray(reduced.length).fill(mean));
    }
    expect(error).toBeLessThan(0.65 * variance);
  });

  test("the last decoded preview is the picture", async () => {
    const generation = model.generate({ labels: [8], seed: 1, preview: "decode" });
    let last: Uint8ClampedArray = new Uint8ClampedArray(0);
    for await (const { preview } of generation) last = preview!.data;
    const [image] = await generation.images();
    expect(maxDifference(last, image!.data)).toBeLessThanOrEqual(1);
  });
});

test("encode undoes decode, nearly: most codes of a decoded picture come back", async () => {
  const tokens = await model.generate({ labels: [1, 5, 7], seed: 3 }).tokens();
  const again = await model.encode(await model.decode(tokens));
  expect(again.count).toBe(3);
  const pixels = await model.decode(again);
  const first = await model.decode(tokens);
  for (const [i, image] of pixels.entries()) expect(meanSquare(image.data, first[i]!.data)).toBeLessThan(600);
});

test("disposing in the middle rejects what waits and ends the engine", async () => {
  const other = await openGolden("digits");
  const { native } = other[internal];
  const images = rejection(other.generate({ labels: Array(16).fill(1) }).images());
  await other.dispose();
  expect(await images).toMatchObject({ code: "ABORTED" });
  await native.dispose(); // idempotent in the core, too
  expect(() => native.stats()).toThrowError();
});

test("the bundled model is the default, and says so", async () => {
  const [one, two] = [await loadModel(), await loadModel("digits", { device: "cpu" })];
  expect(one).toMatchObject({ device: "cpu", deviceReason: "this build has no CUDA backend" });
  expect(two).toMatchObject({ device: "cpu", deviceReason: "asked for", architecture: model.architecture });
  expect(await draw(one, { labels: 5, seed: 1, topK: 1, guidance: 1 })).toEqual(
    await draw(model, { labels: 5, seed: 1, topK: 1, guidance: 1 }),
  );
  await Promise.all([one.dispose(), two.dispose()]);
});

test("progress of loading rises to 1, and an abort during loading rejects", async () => {
  const source = { var: goldenPath("digits", "var.pth"), tokenizer: goldenPath("digits", "vae.pth") };
  const seen: number[] = [];
  const loaded = await loadModel(source, { onProgress: (fraction) => seen.push(fraction) });
  expect(seen.length).toBeGreaterThan(0);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(seen.at(-1)).toBe(1);
  await loaded.dispose();
  const controller = new AbortController();
  const loading = loadModel(source, { signal: controller.signal });
  controller.abort();
  expect(await rejection(loading)).toMatchObject({ name: "AbortError" });
});

function reduce(data: Uint8ClampedArray, from: number, to: number): Float64Array {
  const factor = from / to;
  const result = new Float64Array(to * to * 3);
  for (let i = 0; i < data.length; i++) {
    const [y, x, c] = [Math.floor(i / 3 / from), Math.floor(i / 3) % from, i % 3];
    result[(Math.floor(y / factor) * to + Math.floor(x / factor)) * 3 + c]! += data[i]! / factor ** 2;
  }
  return result;
}

function meanSquare(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum / a.length;
}
