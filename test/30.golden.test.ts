/**
 * The recorded reference, tensor by tensor. Tolerances are those of test/golden/README.md (noise of float32 is 10 to 20
 * times smaller; the erf form of GELU or a wrong GroupNorm epsilon already exceeds them).
 */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ScaleEvent } from "../lib/model/events.js";
import { type Captured, captured, internal } from "../lib/model/internal.js";
import type { Model } from "../lib/model/model.js";
import { loadBinding } from "../lib/native/binding.js";
import type { GenerateOptions } from "../lib/options/generate.js";
import { TokenMaps } from "../lib/values/tokens.js";
import { Golden, goldenConfig, maxDifference, openGolden, transpose } from "./support/golden.js";

const LOGITS = 2e-4;
const LATENT = 1e-4;
const IMAGE = 1e-4;
const LOSS = 1e-4;
const GREEDY: GenerateOptions = { guidance: 1.5, topK: 1, topP: 0, seed: 0 };

type CapturedEvent = ScaleEvent & { [captured]: Captured };

async function capture(model: Model, options: GenerateOptions, givenTokens?: Int32Array): Promise<CapturedEvent[]> {
  const events: CapturedEvent[] = [];
  const generation = model[internal].generate(options, { capture: true, givenTokens });
  for await (const event of generation) events.push(event as CapturedEvent);
  return events;
}

const tokensOf = (event: ScaleEvent) => event.tokens.flatMap((map) => [...map.data]);

/** Float decode in [0, 1] of the tokens of all events. */
async function decodeFloat(model: Model, tokens: TokenMaps): Promise<Float32Array> {
  const out = new Float32Array(tokens.count * 3 * model.architecture.imageSide ** 2);
  await model[internal].native.tokenizer.decode(tokens.flat, out).done;
  return out;
}

function joinTokens(model: Model, perScale: ArrayLike<number>[], count: number): TokenMaps {
  const { numTokens, sides } = model.architecture;
  const flat = new Int32Array(count * numTokens);
  let offset = 0;
  perScale.forEach((tokens, k) => {
    const area = sides[k]! ** 2;
    for (let i = 0; i < count * area; i++) flat[Math.floor(i / area) * numTokens + offset + (i % area)] = tokens[i]!;
    offset += area;
  });
  return new TokenMaps(flat, sides);
}

describe.each(["tiny", "tiny-shared"] as const)("%s", (name) => {
  const golden = new Golden(name);
  const config = goldenConfig(name);
  const scales = config.var.patch_nums.map((_, k) => k);
  const labels = [...golden.i32("gen/labels")];
  let model: Model;
  beforeAll(async () => {
    model = await openGolden(name);
  });
  afterAll(() => model.dispose());

  describe("greedy generation", () => {
    let events: CapturedEvent[];
    beforeAll(async () => {
      events = await capture(model, { ...GREEDY, labels });
    });

    test.each(scales)("scale %i: logits, tokens, feature map, next input", (k) => {
      const { codeDim: E, sides } = model.architecture;
      const event = events[k]!;
      const { logits, fHat, nextInput } = event[captured];
      expect(tokensOf(event)).toEqual([...golden.i32(`gen/${k}/idx`)]);
      expect(maxDifference(logits, golden.f32(`gen/${k}/logits`))).toBeLessThan(LOGITS);
      expect(maxDifference(fHat, golden.f32(`gen/${k}/f_hat`))).toBeLessThan(LATENT);
      const next = sides[k + 1];
      if (next === undefined) return;
      const expected = transpose(golden.f32(`gen/${k}/next_input`), E, next * next);
      expect(maxDifference(nextInput!, expected)).toBeLessThan(LATENT);
    });

    test("hidden states of scale 2, block by block", () => {
      const { depth } = model.architecture;
      const { hidden } = events[2]![captured];
      const size = hidden.length / (depth + 1);
      const states = ["input", ...Array.from({ length: depth }, (_, i) => `block${i}`)];
      states.forEach((state, i) => {
        const difference = maxDifference(hidden.subarray(i * size, (i + 1) * size), golden.f32(`hidden/${state}`));
        expect(difference, state).toBeLessThan(LOGITS);
      });
    });

    test("image: by decode() in float, by images() in bytes", async () => {
      const tokens = joinTokens(model, events.map(tokensOf), labels.length);
      const expected = golden.f32("gen/image");
      expect(maxDifference(await decodeFloat(model, tokens), expected)).toBeLessThan(IMAGE);
      const images = await model.generate({ ...GREEDY, labels }).images();
      const area = model.architecture.imageSide ** 2;
      images.forEach(({ data }, image) => {
        const planes = transpose(
          Float32Array.from(data, (value) => value / 255),
          area,
          3,
        );
        const recorded = expected.subarray(image * 3 * area, (image + 1) * 3 * area);
        expect(maxDifference(planes, recorded)).toBeLessThan(1 / 255);
      });
    });
  });

  test.each(config.subnets)("depth schedule $name: $depth_per_scale", async ({ name: run, depth_per_scale: depth }) => {
    const events = await capture(model, { ...GREEDY, labels, depth, keepDroppedCache: true });
    for (const [k, event] of events.entries()) {
      expect(event.depth).toBe(depth[k]);
      expect(tokensOf(event)).toEqual([...golden.i32(`sub/${run}/${k}/idx`)]);
      expect(maxDifference(event[captured].logits, golden.f32(`sub/${run}/${k}/logits`))).toBeLessThan(LOGITS);
    }
    const tokens = joinTokens(model, events.map(tokensOf), labels.length);
    expect(maxDifference(await decodeFloat(model, tokens), golden.f32(`sub/${run}/image`))).toBeLessThan(IMAGE);
  });

  describe("tokenizer", () => {
    const B = golden.get("encode/input").shape[0]!;

    test("encode: f, codes and feature map of every scale", async () => {
      const { codeDim: E, sides, numScales, numTokens, imageSide } = model.architecture;
      const size = E * sides.at(-1)! ** 2;
      const { native } = model[internal];
      const input = golden.f32("encode/input");
      const tokens = new Int32Array(B * numTokens);
      await native.tokenizer.encode(input, tokens).done;
      const expected = joinTokens(
        model,
        scales.map((k) => golden.i32(`encode/${k}/idx`)),
        B,
      );
      expect([...tokens]).toEqual([...expected.flat]);
      for (let image = 0; image < B; image++) {
        const f = new Float32Array(size);
        const sums = new Float32Array(numScales * size);
        const pixels = input.slice(image * 3 * imageSide ** 2, (image + 1) * 3 * imageSide ** 2);
        await native.tokenizer.encodeTrace(pixels, f, sums).done;
        const part = (tensor: Float32Array) => tensor.subarray(image * size, (image + 1) * size);
        expect(maxDifference(f, part(golden.f32("encode/f")))).toBeLessThan(LATENT);
        for (const k of scales) {
          const sum = sums.subarray(k * size, (k + 1) * size);
          expect(maxDifference(sum, part(golden.f32(`encode/${k}/f_hat`))), `scale ${k}`).toBeLessThan(LATENT);
        }
      }
    });

    test("the feature map of given tokens is the last sum of their encoding", async () => {
      const { codeDim: E, sides } = model.architecture;
      const tokens = joinTokens(
        model,
        scales.map((k) => golden.i32(`encode/${k}/idx`)),
        B,
      );
      const fHats = new Float32Array(B * E * sides.at(-1)! ** 2);
      await model[internal].native.tokenizer.featureMap(tokens.flat, fHats).done;
      expect(maxDifference(fHats, golden.f32(`encode/${scales.at(-1)!}/f_hat`))).toBeLessThan(LATENT);
    });

    test("reconstruction", async () => {
      const tokens = joinTokens(
        model,
        scales.map((k) => golden.i32(`encode/${k}/idx`)),
        B,
      );
      const image = (await decodeFloat(model, tokens)).map((value) => 2 * value - 1);
      expect(maxDifference(image, golden.f32("encode/recon"))).toBeLessThan(2 * IMAGE);
    });
  });

  describe("teacher forcing", () => {
    const teacherLabels = [...golden.i32("teacher/labels")];
    const tokens = () =>
      joinTokens(
        model,
        scales.map((k) => golden.i32(`encode/${k}/idx`)),
        teacherLabels.length,
      );

    /** Logits of all scales, `[B, L, V]`. */
    async function logits(depth: number[]): Promise<{ logits: Float32Array; events: CapturedEvent[] }> {
      const { numTokens: L, codebookSize: V, sides } = model.architecture;
      const options = { labels: teacherLabels, guidance: 0, seed: 0, depth, keepDroppedCache: true };
      const events = await capture(model, options, tokens().flat);
      const all = new Float32Array(teacherLabels.length * L * V);
      let offset = 0;
      events.forEach((event, k) => {
        const size = sides[k]! ** 2 * V;
        teacherLabels.forEach((_, image) => {
          all.set(event[captured].logits.subarray(image * size, (image + 1) * size), image * L * V + offset);
        });
        offset += size;
      });
      return { logits: all, events };
    }

    test("logits and inputs at full depth", async () => {
      const { numTokens: L, codeDim: E, depth, sides } = model.architecture;
      const run = await logits(scales.map(() => depth));
      expect(maxDifference(run.logits, golden.f32("teacher/logits"))).toBeLessThan(LOGITS);
      const inputs = new Float32Array(teacherLabels.length * (L - 1) * E);
      let offset = 0;
      for (const k of scales.slice(1)) {
        const size = sides[k]! ** 2 * E;
        teacherLabels.forEach((_, image) => {
          const rows = run.events[k - 1]![captured].nextInput!.subarray(image * size, (image + 1) * size);
          inputs.set(rows, image * (L - 1) * E + offset);
        });
        offset += size;
      }
      expect(maxDifference(inputs, golden.f32("teacher/input"))).toBeLessThan(LATENT);
    });

    test("score() gives the recorded losses", async () => {
      const score = await model.score({ tokens: tokens(), labels: teacherLabels });
      expect(maxDifference(score.perToken, golden.f32("teacher/loss_per_token"))).toBeLessThan(LOSS);
      expect(maxDifference(score.perScale, golden.f32("teacher/loss_per_scale"))).toBeLessThan(LOSS);
      expect(maxDifference([score.mean], golden.f32("teacher/loss"))).toBeLessThan(LOSS);
    });

    test("a depth schedule is the mask of supernet training", async () => {
      const depth = config.grads_sub.depth_per_scale;
      const run = await logits(depth);
      expect(maxDifference(run.logits, golden.f32("teacher_sub/logits"))).toBeLessThan(LOGITS);
      const score = await model.score({ tokens: tokens(), labels: teacherLabels, depth });
      expect(maxDifference(score.perScale, golden.f32("teacher_sub/loss_per_scale"))).toBeLessThan(LOSS);
      expect(maxDifference([score.mean], golden.f32("teacher_sub/loss"))).toBeLessThan(LOSS);
    });
  });

  if (name === "tiny") {
    test.each([
      "filter/k0_p0",
      "filter/k10_p0",
      "filter/k0_p0.9",
      "filter/k20_p0.8",
      "filter/k1_p0",
      "filter/k0_p1e-06",
    ])("%s", (run) => {
      checkFilter(golden, run);
    });
    test.each(["filter_ties/k1_p0", "filter_ties/k10_p0"])("%s", (run) => checkFilter(golden, run));
  }

  test("every recorded tensor was compared, except those of training", () => {
    expect(golden.unasked(["grads/", "grads_sub/", "grads_sub_s17/", "adamw/", "adamw_groups/"])).toEqual([]);
  });
});

function checkFilter(golden: Golden, run: string): void {
  const [, group, k, p] = /^(\w+)\/k(\d+)_p(.+)$/.exec(run)!;
  const logits = golden.f32(`${group}/logits`);
  const V = golden.get(`${group}/logits`).shape.at(-1)!;
  const expected = golden.f32(run);
  for (let row = 0; row < logits.length; row += V) {
    const found = loadBinding().filterProbabilities(logits.slice(row, row + V), Number(k), Number(p));
    const recorded = expected.subarray(row, row + V);
    expect(maxDifference(found, recorded)).toBeLessThan(1e-5);
    expect([...found].map((value) => value === 0)).toEqual([...recorded].map((value) => value === 0));
  }
}

describe("tiny-shared in other containers", () => {
  const golden = new Golden("tiny-shared");
  const labels = [...golden.i32("gen/labels")];

  test.each([
    ["legacy.pth", LOGITS],
    ["trainer.pth", LOGITS],
    ["half.pth", 0.05],
    ["bf16.pth", 0.4],
  ])("%s: logits of scale 0 within %d", async (file, tolerance) => {
    const model = await openGolden("tiny-shared", file);
    const [first] = await capture(model, { ...GREEDY, labels });
    expect(maxDifference(first![captured].logits, golden.f32("gen/0/logits"))).toBeLessThan(tolerance);
    await model.dispose();
  });
});
