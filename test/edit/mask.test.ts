/** Which tokens a mask keeps, against the reference's recordings and by properties; pixels back with a feather. */

import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DRAW, givenTokens, keptByStrength, seamTokens } from "../../lib/edit/given.js";
import { keepMaps } from "../../lib/edit/mask.js";
import { pasteKept } from "../../lib/edit/paste.js";
import { goldenConfig } from "../support/golden.js";
import { readTensors } from "../support/safetensors.js";

const folder = join(import.meta.dirname, "..", "golden", "edit");

function open(name: "tiny" | "tiny-shared") {
  const tensors = readTensors(join(folder, name === "tiny" ? "tiny.safetensors" : "tiny-shared.safetensors"));
  const get = (key: string) => tensors.get(key)!;
  const maskOf = (key: string) => {
    const { shape, data } = get(key);
    return { width: shape[1]!, height: shape[0]!, keep: Uint8Array.from(data as Int32Array) };
  };
  return { names: [...tensors.keys()], get, maskOf };
}

const CASES = ["grid_inpaint", "grid_outpaint", "pixels_rect", "pixels_left", "pixels_random", "pixels_checker"];

describe("keep maps equal the reference's", () => {
  test.each(["tiny", "tiny-shared"] as const)("%s: every case and scale", (name) => {
    const { get, maskOf } = open(name);
    const sides = goldenConfig(name).var.patch_nums;
    for (const key of CASES) {
      const expected = sides.flatMap((_, scale) => [...get(`${key}/${scale}/keep`).data]);
      expect([...keepMaps(maskOf(`${key}/mask`), sides)], key).toEqual(expected);
    }
  });

  test("24 masks at ten sides, with edges through the middle of tokens", () => {
    const { names, get, maskOf } = open("tiny");
    const maps = names.filter((key) => /^masks\/\d+\/\d+$/.test(key));
    expect(maps.length).toBe(240);
    let tokens = 0;
    for (const key of maps) {
      const [, index, side] = key.split("/");
      const found = keepMaps(maskOf(`masks/${index}/mask`), [Number(side)]);
      expect([...found], key).toEqual([...get(key).data]);
      tokens += found.length;
    }
    expect(tokens).toBe(16_320);
  });
});

describe("strength", () => {
  const sides = [1, 2, 3, 4];
  const total = 30;
  const count = (map: Uint8Array) => map.reduce((sum, kept) => sum + kept, 0);

  test("0 keeps all, 1 none, and less strength never keeps less", () => {
    expect(count(keptByStrength(0, sides, 7))).toBe(total);
    expect(count(keptByStrength(1, sides, 7))).toBe(0);
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }), (a, b) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        expect(count(keptByStrength(low, sides, 7))).toBeGreaterThanOrEqual(count(keptByStrength(high, sides, 7)));
      }),
    );
  });

  test("a scale at the threshold is taken by a share of its tokens, chosen by the seed", () => {
    const half = keptByStrength(1 - 3.5 / 4, sides, 7); // three scales and half of the fourth
    expect([...half.subarray(0, 14)].every((kept) => kept === 1)).toBe(true);
    expect(count(half.subarray(14))).toBe(8);
    expect(keptByStrength(1 - 3.5 / 4, sides, 7)).toEqual(half);
    expect(keptByStrength(1 - 3.5 / 4, sides, 8)).not.toEqual(half);
  });
});

test("given tokens are the source's where any map keeps them; the seam is what is drawn beside them", () => {
  const sides = [1, 3];
  const source = Int32Array.from([5, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
  const kept = Uint8Array.from([1, 1, 1, 1, 0, 0, 0, 0, 0, 0]); // the upper row of the second scale
  const given = givenTokens(source, [kept, new Uint8Array(10)]);
  expect([...given]).toEqual([5, 10, 11, 12, DRAW, DRAW, DRAW, DRAW, DRAW, DRAW]);
  expect(seamTokens(given, sides)).toEqual([4, 5, 6]);
  expect(seamTokens(new Int32Array(10).fill(DRAW), sides)).toHaveLength(10);
});

describe("kept pixels go back", () => {
  const pixels = (side: number) =>
    fc
      .uint8Array({ minLength: side * side * 3, maxLength: side * side * 3 })
      .map((data) => Uint8ClampedArray.from(data));

  test("beyond the feather they are the original's, drawn ones stay, and the rest lies between", () => {
    const side = 9;
    fc.assert(
      fc.property(
        fc.uint8Array({ min: 0, max: 1, minLength: side * side, maxLength: side * side }),
        pixels(side),
        pixels(side),
        fc.integer({ min: 0, max: 5 }),
        (keep, drawn, original, feather) => {
          const result = drawn.slice();
          pasteKept(result, original, { width: side, height: side, keep }, feather);
          const wrong: number[][] = [];
          for (let pixel = 0; pixel < side * side; pixel++) {
            let distance = Number.POSITIVE_INFINITY;
            for (let other = 0; other < side * side; other++) {
              if (keep[other] === 1) continue;
              const [dx, dy] = [(other % side) - (pixel % side), Math.floor(other / side) - Math.floor(pixel / side)];
              distance = Math.min(distance, Math.hypot(dx, dy));
            }
            for (let at = 3 * pixel; at < 3 * pixel + 3; at++) {
              const share = keep[pixel] === 0 ? 0 : distance > feather ? 1 : distance / (feather + 1);
              const expected = drawn[at]! + share * (original[at]! - drawn[at]!);
              const allowed = share === 0 || share === 1 ? 0 : 0.5 + 1e-9;
              if (!(Math.abs(result[at]! - expected) <= allowed)) wrong.push([pixel, result[at]!, expected]);
            }
          }
          expect(wrong).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });
});
