import { describe, expect, test } from "vitest";
import { fakeModel } from "./support/fake-engine.js";
import { openGolden } from "./support/golden.js";
import { rejection } from "./support/rejections.js";

describe("generate", () => {
  test("gives one event per scale, in order, then the images", async () => {
    const { model } = fakeModel();
    const generation = model.generate({ labels: [3, 7], seed: 42 });
    const seen: number[] = [];
    for await (const scale of generation) {
      seen.push(scale.index);
      expect(scale).toMatchObject({ total: 4, side: scale.index + 1, depth: 8, reason: "plan", preview: null });
      expect(scale.tokens.map((map) => map.data.length)).toEqual([scale.side ** 2, scale.side ** 2]);
      expect(scale.progress).toBeCloseTo([1, 5, 14, 30][scale.index]! / 30);
    }
    expect(seen).toEqual([0, 1, 2, 3]);
    const images = await generation.images();
    expect(images.map(({ width, height, data }) => [width, height, data[0], data.length])).toEqual([
      [8, 8, 3, 192],
      [8, 8, 7, 192],
    ]);
  });

  test("needs nobody to iterate, and decodes once", async () => {
    const { model, engine } = fakeModel();
    const generation = model.generate({ labels: 5 });
    const [first, second] = await Promise.all([generation.images(), generation.images()]);
    expect(first).toBe(second);
    expect(engine.log).toEqual(["decode"]);
  });

  test("tokens() joins the scales of each image", async () => {
    const { model } = fakeModel();
    const tokens = await model.generate({ labels: [1, 4] }).tokens();
    expect(tokens.count).toBe(2);
    expect(tokens.flat.length).toBe(60);
    expect([...tokens.map(1, 1).data]).toEqual([5, 6, 7, 8]);
    expect(tokens.maps[0]!.map((map) => map.length)).toEqual([1, 4, 9, 16]);
    expect([...tokens.image(1).flat]).toEqual([...tokens.flat.subarray(30)]);
  });

  test("sends the core a complete request, with defaults", async () => {
    const { model, engine } = fakeModel();
    const generation = model.generate();
    await generation.images();
    const request = engine.requests[0]!;
    expect([...request.labels]).toEqual([10]);
    expect([...request.guidance]).toEqual([0, 0.5, 1, 1.5]);
    expect(request).toMatchObject({ topK: 32, topP: 0.96, wait: true, preview: "none", keepDroppedCache: false });
    expect(request).toMatchObject({ deadlineMs: 0, givenTokens: null, capture: false, firstImage: 0 });
    expect([...request.depths]).toEqual([8, 8, 8, 8]);
    expect(request.seed).toBe(BigInt(generation.seed));
  });

  test("draws a seed when none is given, and reports the one in use", async () => {
    const { model } = fakeModel();
    const seeds = Array.from({ length: 8 }, () => model.generate().seed);
    expect(new Set(seeds).size).toBeGreaterThan(1);
    expect(model.generate({ seed: 2n ** 64n - 1n }).seed).toBe(2n ** 64n - 1n);
    await model.dispose();
  });

  test("takes class names: whole, one synonym, any case, unconditional", async () => {
    const { model, engine } = fakeModel();
    await model.generate({ labels: ["zero", "TWO, deux", "two", "Nine", "unconditional", 10] }).images();
    expect([...engine.requests[0]!.labels]).toEqual([0, 2, 2, 9, 10, 10]);
  });

  test("uses what the checkpoint recommends unless told otherwise", async () => {
    const { model, engine } = fakeModel({ recommended: { guidance: 3, topK: 7, topP: 0.5 } });
    await model.generate().images();
    await model.generate({ guidance: [4, 3, 2, 1], topK: 0, topP: 0 }).images();
    expect(engine.requests[0]).toMatchObject({ topK: 7, topP: 0.5, guidance: Float32Array.of(0, 1, 2, 3) });
    expect(engine.requests[1]).toMatchObject({ topK: 0, topP: 0, guidance: Float32Array.of(4, 3, 2, 1) });
  });
});

describe("imagesAtOnce", () => {
  const { model } = fakeModel(); // its pool has 100 bytes; an image takes a byte per block, scale and guidance branch
  test.each([
    [undefined, 1],
    [{ depth: 2 }, 6],
    [{ depth: 2, guidance: 0 }, 12],
    [{ guidance: [0, 0, 0, 0] }, 3],
    [{ guidance: [0, 0, 0, 0.1] }, 1],
    [{ depth: { bridge: 2, subnet: 2 }, guidance: 0 }, 5],
    [{ depth: 2, guidance: 0, keepDroppedCache: true }, 3],
    [{ depth: { deadlineMs: 5, depths: [2, 4] }, guidance: 0 }, 6],
  ])("%j: %i", (options, expected) => expect(model.imagesAtOnce(options)).toBe(expected));

  test("follows the model's own plan and recommendation, and refuses what generate refuses", () => {
    const { model: other } = fakeModel({ recommended: { guidance: 0 } });
    expect(other.imagesAtOnce()).toBe(3);
    other.setDepth(2);
    expect(other.imagesAtOnce()).toBe(12);
    expect(() => other.imagesAtOnce({ depth: 99 })).toThrowError(/depth/);
  });

  test("so many images run together in a real pool, one more has to wait", async () => {
    const wide = await openGolden("digits");
    const bytes = 3 * wide.peakBytes(2) + 1;
    await wide.dispose();
    const real = await openGolden("digits", "var.pth", { kvPool: { bytes } });
    expect(real.imagesAtOnce({ depth: 2 })).toBe(3);
    await real.generate({ labels: [1, 2, 3], depth: 2, wait: false }).tokens();
    const tooMany = real.generate({ labels: [1, 2, 3, 4], depth: 2, wait: false }).tokens();
    expect(await rejection(tooMany)).toMatchObject({ code: "POOL_EXHAUSTED" });
    await real.dispose();
  });
});

test("firstImage: image n of a seed is the same, whichever call makes it", async () => {
  const real = await openGolden("digits");
  const labels = [1, 2, 3, 4];
  const whole = await real.generate({ labels, seed: 9 }).tokens();
  const rest = await real.generate({ labels: [3, 4], seed: 9, firstImage: 2 }).tokens();
  expect([...rest.image(0).flat]).toEqual([...whole.image(2).flat]);
  expect([...rest.image(1).flat]).toEqual([...whole.image(3).flat]);
  const other = await real.generate({ labels: [3, 4], seed: 9 }).tokens();
  expect([...other.flat]).not.toEqual([...rest.flat]);
  expect(() => real.generate({ firstImage: -1 })).toThrowError(/firstImage/);
  await real.dispose();
});

describe("encode, decode and stats", () => {
  test("encode checks size and channels and returns one set of maps per image", async () => {
    const { model } = fakeModel();
    const grey = (value: number, channels: number) => ({
      width: 8,
      height: 8,
      data: new Uint8Array(64 * channels).fill(value),
    });
    const tokens = await model.encode([grey(255, 3), grey(255, 4)]);
    expect(tokens.count).toBe(2);
    expect(tokens.flat.every((token) => token === 4)).toBe(true);
  });

  test("decode returns an image for each 30 tokens, each with pixels of its own", async () => {
    const { model } = fakeModel();
    const [first, second] = await model.decode(Int32Array.from({ length: 60 }, (_, i) => (i < 30 ? 1 : 2)));
    expect([first!.data[0], second!.data[0]]).toEqual([1, 2]);
    expect(first!.data.buffer).not.toBe(second!.data.buffer);
  });

  test("stats name the columns of the time table", () => {
    const { model } = fakeModel();
    const stats = model.stats();
    expect(stats.scaleTimes).toEqual([
      { scale: 0, depth: 8, rows: 1, ms: 0.5 },
      { scale: 1, depth: 8, rows: 4, ms: 0.75 },
    ]);
    expect(stats.tokensPerSecond).toBe(3000);
    expect(model.pool.capacityBytes).toBe(100);
  });
});
