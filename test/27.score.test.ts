import fc from "fast-check";
import { expect, test } from "vitest";
import { crossEntropy, imagesPerRun } from "../lib/score.js";
import { ARCHITECTURE } from "./support/fake-engine.js";
import { Golden, maxDifference } from "./support/golden.js";

test.each(["tiny", "tiny-shared"] as const)("%s: recorded logits give recorded losses", (name) => {
  const golden = new Golden(name);
  const logits = golden.f32("teacher/logits");
  const [B, L, V] = golden.get("teacher/logits").shape as [number, number, number];
  const sides: number[] = [];
  while (golden.has(`encode/${sides.length}/idx`))
    sides.push(Math.sqrt(golden.get(`encode/${sides.length}/idx`).shape[1]!));
  const tokens = new Int32Array(B * L);
  let offset = 0;
  sides.forEach((side, k) => {
    const recorded = golden.i32(`encode/${k}/idx`);
    recorded.forEach((token, i) => {
      tokens[Math.floor(i / side ** 2) * L + offset + (i % side ** 2)] = token;
    });
    offset += side ** 2;
  });
  const losses = Array.from(tokens, (token, row) => crossEntropy(logits.subarray(row * V, (row + 1) * V), token));
  expect(maxDifference(losses, golden.f32("teacher/loss_per_token"))).toBeLessThan(1e-5);
});

test("property: cross entropy equals the naive formula, and its probabilities sum to 1", () => {
  const rows = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(rows, (values) => {
      const logits = Float32Array.from(values);
      const sum = logits.reduce((total, value) => total + Math.exp(value), 0);
      let mass = 0;
      logits.forEach((value, token) => {
        const loss = crossEntropy(logits, token);
        expect(Math.abs(loss + Math.log(Math.exp(value) / sum))).toBeLessThan(1e-9 * (1 + Math.abs(loss)));
        mass += Math.exp(-loss);
      });
      expect(Math.abs(mass - 1)).toBeLessThan(1e-9);
    }),
  );
});

test("logits too large for exp() are no trouble", () => {
  expect(crossEntropy(Float32Array.of(1000, 999), 0)).toBeCloseTo(Math.log1p(Math.exp(-1)), 6);
  expect(crossEntropy(Float32Array.of(-1000, -999), 1)).toBeCloseTo(Math.log1p(Math.exp(-1)), 6);
});

test("a run holds at least one image and no more floats than are cheap to hand over", () => {
  expect(imagesPerRun(ARCHITECTURE)).toBeGreaterThan(100);
  const large = { ...ARCHITECTURE, codebookSize: 4096, depth: 30, width: 1920, sides: [1, 16] };
  expect(imagesPerRun(large)).toBe(1);
});
