/** score(): the core's losses against the recorded ones, against captured logits, and in any number of runs. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { ScaleEvent } from "../lib/model/events.js";
import { captured, internal, losses } from "../lib/model/internal.js";
import type { Model } from "../lib/model/model.js";
import { imagesPerRun, scoreTokens } from "../lib/model/score.js";
import { Golden, maxDifference, openGolden } from "./support/golden.js";
import { Random } from "./support/random-checkpoint.js";
import { rejection } from "./support/rejections.js";

let model: Model;
beforeAll(async () => {
  model = await openGolden("digits");
});
afterAll(() => model.dispose());

const random = new Random(27);
const draw = (count: number) => {
  const { numTokens, codebookSize } = model.architecture;
  return {
    labels: Array.from({ length: count }, () => random.below(10)),
    tokens: Int32Array.from({ length: count * numTokens }, () => random.below(codebookSize)),
  };
};

/** -ln softmax(logits)[token], naive. */
function crossEntropy(logits: Float32Array, token: number): number {
  const max = logits.reduce((a, b) => Math.max(a, b));
  return Math.log(logits.reduce((sum, value) => sum + Math.exp(value - max), 0)) + max - logits[token]!;
}

test("losses are the cross entropy of the logits, at any depth and in any company", async () => {
  const { codebookSize } = model.architecture;
  for (const depth of [8, 3, 2]) {
    const { labels, tokens } = draw(5);
    const options = { labels, depth, guidance: 0, seed: 0 };
    const run = (extra: object) => model[internal].generate(options, { forcedTokens: tokens, losses: true, ...extra });
    const others = model.generate({ labels: [1, 2, 3] });
    const plain = run({});
    for await (const event of run({ capture: true })) {
      const { logits } = (event as ScaleEvent & { [captured]: { logits: Float32Array } })[captured];
      const found = (event as ScaleEvent & { [losses]: Float32Array })[losses];
      const forced = event.tokens.flatMap((map) => [...map.data]);
      const expected = forced.map((token, row) =>
        crossEntropy(logits.subarray(row * codebookSize, (row + 1) * codebookSize), token),
      );
      expect(found.length).toBe(forced.length);
      expect(maxDifference(found, expected)).toBeLessThan(1e-4);
      for await (const same of plain)
        if (same.index === event.index)
          expect([...(same as ScaleEvent & { [losses]: Float32Array })[losses]]).toEqual([...found]);
    }
    await others.tokens();
  }
});

test("guidance plays no part", async () => {
  const { labels, tokens } = draw(2);
  const read = async (guidance: number) => {
    const found: number[] = [];
    const overrides = { forcedTokens: tokens, losses: true };
    for await (const event of model[internal].generate({ labels, guidance, seed: 0 }, overrides))
      found.push(...(event as ScaleEvent & { [losses]: Float32Array })[losses]);
    return found;
  };
  expect(await read(3)).toEqual(await read(0));
});

test("only generations that ask carry losses", async () => {
  const { labels, tokens } = draw(1);
  for (const overrides of [{}, { forcedTokens: tokens }])
    for await (const event of model[internal].generate({ labels, seed: 0 }, overrides))
      expect(Object.hasOwn(event, losses)).toBe(false);
  const bad = model[internal].generate({ labels, seed: 0 }, { losses: true });
  expect(await rejection(bad.tokens())).toMatchObject({ message: expect.stringContaining("forced tokens") });
});

test("a pool that holds two images gives the same score in many runs, beside another generation", async () => {
  const { labels, tokens } = draw(7);
  const whole = await model.score({ labels, tokens });
  const bytes = 2 * model.peakBytes(8);
  const small = await openGolden("digits", "var.pth", { kvPool: { bytes } });
  const [parts] = await Promise.all([small.score({ labels, tokens }), small.generate({ labels: 1 }).tokens()]);
  expect([...parts.perToken]).toEqual([...whole.perToken]);
  expect(parts.mean).toBe(whole.mean);
  expect(small.pool.peakBytes).toBeLessThanOrEqual(bytes);
  await small.dispose();
});

test("means are means of what belongs together", async () => {
  const golden = new Golden("digits");
  const { numTokens, sides } = model.architecture;
  const tokens = golden.i32("heldout/tokens").subarray(0, 9 * numTokens);
  const labels = [...golden.i32("heldout/labels").subarray(0, 9)];
  const score = await model.score({ tokens: Int32Array.from(tokens), labels });
  const recorded = golden.f32("heldout/loss_per_token").subarray(0, 9 * numTokens);
  expect(maxDifference(score.perToken, recorded)).toBeLessThan(1e-4);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const all = [...score.perToken];
  expect(score.mean).toBeCloseTo(mean(all), 6);
  score.perImage.forEach((loss, i) => {
    expect(loss).toBeCloseTo(mean(all.slice(i * numTokens, (i + 1) * numTokens)), 6);
  });
  let offset = 0;
  sides.forEach((side, k) => {
    const of = all.filter((_, i) => i % numTokens >= offset && i % numTokens < offset + side * side);
    expect(score.perScale[k]).toBeCloseTo(mean(of), 6);
    offset += side * side;
  });
});

test("images per run: what half the pool holds, at least one, at most 64", () => {
  expect(imagesPerRun(1000, 100)).toBe(5);
  expect(imagesPerRun(100, 100)).toBe(1);
  expect(imagesPerRun(1e12, 100)).toBe(64);
});

test("runs get their own images' labels and tokens", async () => {
  const { architecture } = model;
  const seen: number[][] = [];
  const { tokens } = draw(5);
  const score = await scoreTokens(
    architecture,
    Int32Array.of(1, 2, 3, 4, 5),
    tokens,
    2,
    async function* (labels, part) {
      seen.push([...labels]);
      expect(part.length).toBe(labels.length * architecture.numTokens);
      for (const side of architecture.sides) {
        const values = Float32Array.from(
          { length: labels.length * side * side },
          (_, i) => labels[Math.floor(i / side ** 2)]!,
        );
        yield { side, [losses]: values } as unknown as ScaleEvent;
      }
    },
  );
  expect(seen).toEqual([[1, 2], [3, 4], [5]]);
  expect(score.perImage).toEqual([1, 2, 3, 4, 5]);
  expect(score.perScale.every((loss) => loss === 3)).toBe(true);
});
