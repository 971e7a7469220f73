/** The helpers have their own tests: a comparison that cannot fail proves nothing. */

import { expect, test } from "vitest";
import { Golden, maxDifference, transpose } from "./support/golden.js";

test("maxDifference sees the largest one, NaN and a wrong length", () => {
  expect(maxDifference([1, 2, 3], [1, 2.5, 3.25])).toBe(0.5);
  expect(maxDifference([], [])).toBe(0);
  expect(maxDifference([1], [1, 2])).toBe(Number.POSITIVE_INFINITY);
  expect(maxDifference([Number.NaN, 1], [1, 1])).toBe(Number.POSITIVE_INFINITY);
  expect(maxDifference([1, 1], [Number.NaN, 1])).toBe(Number.POSITIVE_INFINITY);
});

test("transpose, per image", () => {
  expect([...transpose(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 2, 3)]).toEqual([
    1, 4, 2, 5, 3, 6, 7, 10, 8, 11, 9, 12,
  ]);
});

test("Golden knows what nobody has asked for, and refuses names that it lacks", () => {
  const golden = new Golden("tiny-shared");
  golden.get("gen/labels");
  const rest = golden.unasked(["grads", "sub/"]);
  expect(rest).toContain("gen/image");
  expect(rest).not.toContain("gen/labels");
  expect(rest.some((name) => name.startsWith("grads"))).toBe(false);
  expect(() => golden.get("gen/none")).toThrow(/gen\/none/);
});
