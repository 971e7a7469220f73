/** The trained digits model against what the reference returns for it: greedy images, and 500 held-out test images. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { internal } from "../lib/model/internal.js";
import type { Model } from "../lib/model/model.js";
import { NormalEquations } from "../lib/model/preview.js";
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

test("the fitted preview is nearly the best linear one for pictures that the fit has not seen", async () => {
  const { codeDim: E, imageSide: S, sides } = model.architecture;
  const P = sides.at(-1)!;
  const count = 100;
  const labels = Array.from({ length: count }, (_, i) => i % 10);
  const tokens = (await model.generate({ labels, seed: 1234, guidance: 0 }).tokens()).flat;
  const { tokenizer } = model[internal].native;
  const fHats = new Float32Array(count * E * P * P);
  const pictures = new Float32Array(count * 3 * S * S);
  await tokenizer.featureMap(tokens, fHats).done;
  await tokenizer.decode(tokens, pictures).done;
  const best = new NormalEquations(E + 1);
  const rows: { features: Float64Array; colour: Float64Array }[] = [];
  for (let image = 0; image < count; image++) {
    for (let at = 0; at < P * P; at++) {
      const features = Float64Array.from({ length: E + 1 }, (_, e) =>
        e === E ? 1 : fHats[(image * E + e) * P * P + at]!,
      );
      const factor = S / P;
      const colour = Float64Array.from({ length: 3 }, (_, c) => {
        let sum = 0;
        for (let y = 0; y < factor; y++) {
          for (let x = 0; x < factor; x++) {
            const row = Math.floor(at / P) * factor + y;
            sum += pictures[((image * 3 + c) * S + row) * S + (at % P) * factor + x]!;
          }
        }
        return sum / factor ** 2;
      });
      best.add(features, colour);
      rows.push({ features, colour });
    }
  }
  const errorOf = (matrix: Float32Array) => {
    let sum = 0;
    for (const { features, colour } of rows) {
      for (let c = 0; c < 3; c++) {
        sum += (features.reduce((total, x, e) => total + x * matrix[c * (E + 1) + e]!, 0) - colour[c]!) ** 2;
      }
    }
    return Math.sqrt(sum / (3 * rows.length));
  };
  const black = new Float32Array(3 * (E + 1));
  const [fitted, least, none] = [await model.fitPreview(), best.solve(), black].map(errorOf) as [
    number,
    number,
    number,
  ];
  expect(least).toBeLessThan(0.7 * none); // else nothing can be seen in a linear preview
  expect(fitted).toBeLessThan(1.1 * least);
});

test("every recorded tensor was compared", () => {
  expect(golden.unasked([])).toEqual([]);
});
