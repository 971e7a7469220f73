import fc from "fast-check";
import { expect, test } from "vitest";
import { NormalEquations } from "../lib/model/preview.js";
import { fakeModel } from "./support/fake-engine.js";

test("property: least squares finds the matrix that made the data", () => {
  const value = fc.double({ min: -2, max: 2, noNaN: true });
  const cases = fc
    .integer({ min: 1, max: 6 })
    .chain((n) => fc.tuple(fc.constant(n), fc.array(value, { minLength: 3 * n, maxLength: 3 * n })));
  fc.assert(
    fc.property(cases, ([n, matrix]) => {
      const system = new NormalEquations(n);
      for (let sample = 0; sample < 8 * n; sample++) {
        const features = Float64Array.from(
          { length: n },
          (_, i) => Math.sin(1 + sample * (i + 1) * 1.7) + (i === n - 1 ? 2 : 0),
        );
        const colour = Float64Array.from({ length: 3 }, (_, c) =>
          features.reduce((sum, x, i) => sum + x * matrix[c * n + i]!, 0),
        );
        system.add(features, colour);
      }
      const found = system.solve(1e-12);
      for (let i = 0; i < 3 * n; i++) expect(Math.abs(found[i]! - matrix[i]!)).toBeLessThan(1e-4);
    }),
  );
});

test("a feature that never varies does not blow up", () => {
  const system = new NormalEquations(3);
  for (let i = 0; i < 10; i++) system.add(Float64Array.of(i, 0, 1), Float64Array.of(i / 10, 0.5, 1));
  const matrix = system.solve();
  expect(matrix.every(Number.isFinite)).toBe(true);
  expect(matrix[0]).toBeCloseTo(0.1, 3);
  expect(matrix[5]).toBeCloseTo(0.5, 3);
});

test("the first linear preview fits the matrix, once for all that wait for it; later ones use it", async () => {
  const { model, engine } = fakeModel();
  const [first, second] = [model.generate({ preview: "linear" }), model.generate({ preview: "linear" })];
  await Promise.all([first.images(), second.images()]);
  const fits = engine.requests.filter((request) => request.preview === "none");
  expect(fits.length).toBe(1);
  expect(engine.matrix).toHaveLength(15);
  await model.generate({ preview: "linear" }).images();
  expect(engine.requests.length).toBe(4);
});

test("previews are one image per label, and preview is the first of them", async () => {
  const { model } = fakeModel({ previewMatrix: new Float32Array(15) });
  for await (const scale of model.generate({ labels: [1, 2], preview: "linear" })) {
    expect(scale.previews!.map(({ width, data }) => [width, data[0]])).toEqual([
      [4, scale.index],
      [4, scale.index],
    ]);
    expect(scale.preview).toBe(scale.previews![0]);
  }
});

test("a generation that is cancelled while the matrix is fitted never starts", async () => {
  const { model, engine } = fakeModel();
  const generation = model.generate({ labels: 7, preview: "linear" });
  generation.cancel();
  await model.fitPreview();
  expect(engine.requests.every((request) => request.preview === "none")).toBe(true);
  await model.dispose();
});
