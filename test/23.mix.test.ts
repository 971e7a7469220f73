/** Mixes of classes: what they are, that they change nothing else, and what is refused. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundledModelPath, InvalidOptionError, type Label, type LabelMix } from "../lib/index.js";
import { loadModel } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import type { GenerateOptions } from "../lib/options/generate.js";

const folder = mkdtempSync(join(tmpdir(), "nextscale-mix-"));
const options = { seed: 3, guidance: 2, topP: 0.95 };
let model: Model;

beforeAll(async () => {
  model = await loadModel(undefined, { threads: 2 });
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true, force: true });
});

async function draw(from: Model, labels: GenerateOptions["labels"]): Promise<Int32Array> {
  return (await from.generate({ labels, ...options }).tokens()).flat;
}

/** A copy of the bundled model whose class 0 has another embedding. */
function withClass0(row: (at: (label: number) => Float32Array) => Float32Array): string {
  const bytes = readFileSync(bundledModelPath());
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  const { dtype, shape, data_offsets } = header["var.class_emb.weight"];
  expect(dtype).toBe("F32");
  const width: number = shape[1];
  const start = 8 + headerBytes + data_offsets[0];
  const at = (label: number) => {
    const from = start + 4 * width * label;
    return new Float32Array(Uint8Array.from(bytes.subarray(from, from + 4 * width)).buffer);
  };
  const mixed = row(at);
  bytes.set(new Uint8Array(mixed.buffer, mixed.byteOffset, mixed.byteLength), start);
  const path = join(folder, "mixed.safetensors");
  writeFileSync(path, bytes);
  return path;
}

test("a mix draws what a class with the mixed embedding draws, to the token", async () => {
  const { fround } = Math;
  const path = withClass0((at) => at(3).map((x, i) => fround(fround(0.75 * x) + fround(0.25 * at(8)[i]!))));
  await using other = await loadModel(path, { threads: 2 });
  const expected = await draw(other, 0);
  expect(await draw(model, { 3: 0.75, 8: 0.25 })).toEqual(expected);
  expect(await draw(model, 3)).not.toEqual(expected);
  expect(await draw(model, { 3: 0.5, 8: 0.5 })).not.toEqual(expected);
});

test("a whole share is the class itself, by number or by name; a share of nothing changes nothing", async () => {
  const three = await draw(model, 3);
  const name = model.classNames[3]!;
  expect(await draw(model, { 3: 1 })).toEqual(three);
  expect(await draw(model, { [`name:${name}`]: 1 })).toEqual(three);
  expect(await draw(model, { 3: 1, 5: 0 })).toEqual(three);
  const unconditional = await draw(model, "unconditional");
  expect(await draw(model, { unconditional: 1 })).toEqual(unconditional);
});

test("mixes and classes in one call and in any company: each image is what it is alone", async () => {
  const labels: (Label | LabelMix)[] = [3, { 3: 0.5, 8: 0.5 }, 7, { 1: 0.2, 4: 0.3, 9: 0.5 }];
  const busy = Array.from({ length: 4 }, (_, seed) => model.generate({ labels: [seed, { 0: 0.5, 6: 0.5 }], seed }));
  const together = await model.generate({ labels, ...options }).tokens();
  await Promise.all(busy.map((other) => other.tokens()));
  for (const [firstImage, label] of labels.entries()) {
    const alone = await model.generate({ labels: label, firstImage, ...options }).tokens();
    expect(together.image(firstImage).flat).toEqual(alone.flat);
  }
});

test("edits and scores take them, too", async () => {
  const mix = { 3: 0.5, 8: 0.5 };
  const tokens = await model.generate({ labels: 3, ...options }).tokens();
  const [image] = await model.decode(tokens);
  const score = (labels: GenerateOptions["labels"]) => model.score({ tokens, labels: labels! });
  expect((await score({ 3: 1 })).perToken).toEqual((await score(3)).perToken);
  expect((await score(mix)).mean).not.toBe((await score(3)).mean);
  const edit = model.edit({
    image: image!,
    mask: { x: 0, y: 16, width: 32, height: 16 },
    label: mix,
    variants: 2,
    seed: 1,
  });
  expect(await edit.images()).toHaveLength(2);
});

describe("refusals", () => {
  const cases: [string, unknown, RegExp][] = [
    ["weights that do not sum to 1", { 3: 0.5, 8: 0.4 }, /weights that sum to 1, found weights that sum to 0\.9/],
    ["no class at all", {}, /1\.\.8 of them with weights/],
    ["nine classes", Object.fromEntries(Array.from({ length: 9 }, (_, i) => [i, 1 / 9])), /1\.\.8/],
    ["a negative weight", { 3: 1.5, 8: -0.5 }, /\["3"\].*0\.\.1/],
    ["a weight that is no number", { 3: "half" }, /\["3"\].*0\.\.1.*found "half"/],
    ["a class that is not there", { 3: 0.5, 99: 0.5 }, /0\.\.10.*found 99/],
    ["a name that is not there", { three: 0.5, walrus: 0.5 }, /class/],
    ["NaN", { 3: Number.NaN }, /0\.\.1/],
  ];
  test.each(cases)("%s", (_, labels, message) => {
    expect(() => model.generate({ labels: labels as GenerateOptions["labels"] })).toThrow(InvalidOptionError);
    expect(() => model.generate({ labels: labels as GenerateOptions["labels"] })).toThrow(message);
  });

  test("the same class twice, by number and by name", () => {
    const name = `name:${model.classNames[3]}`;
    expect(() => model.generate({ labels: { 3: 0.5, [name]: 0.5 } })).toThrow(/class 3 twice/);
  });

  test("any weights are taken or refused with a typed error, never passed on wrong", () => {
    const weights = fc.dictionary(fc.integer({ min: 0, max: 10 }).map(String), fc.double(), { minKeys: 1, maxKeys: 8 });
    fc.assert(
      fc.property(weights, (mix) => {
        const good = Object.values(mix).every((weight) => weight >= 0 && weight <= 1);
        const sum = Object.values(mix).reduce((total, weight) => total + weight, 0);
        try {
          model.generate({ labels: mix, seed: 1, topK: 1, guidance: 0, depth: 2 }).cancel();
          expect(good && Math.abs(sum - 1) <= 1e-3).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidOptionError);
        }
      }),
    );
  });
});
