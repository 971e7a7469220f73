/** evaluateModel and measureSensitivity, on recorded tokens of held-out digits. */

import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TokenSet } from "../lib/data/index.js";
import { evaluateModel, measureSensitivity, sensitivityPlot } from "../lib/evaluate/index.js";
import { recommendBridge, zoneRanges } from "../lib/evaluate/sensitivity.js";
import type { Model } from "../lib/model/model.js";
import { resolveEvaluateSettings } from "../lib/options/evaluate.js";
import { plot, ticks } from "../lib/plot/svg.js";
import { Golden, openGolden } from "./support/golden.js";
import { type SetParts, scratch, writeTokenSet } from "./support/token-files.js";

const golden = new Golden("digits");
const DIGITS = Array.from({ length: 10 }, (_, digit) => String(digit));
let model: Model;
beforeAll(async () => {
  model = await openGolden("digits");
});
afterAll(() => model.dispose());

/** The recorded images as a token set, in their recorded order. */
async function heldout(parts: Partial<SetParts> = {}): Promise<TokenSet> {
  const folder = join(scratch(), "tokens");
  await writeTokenSet(folder, {
    sides: [1, 2, 3, 4, 6, 8],
    codebookSize: 512,
    codeDim: 8,
    fingerprint: model.tokenizerFingerprint,
    classes: DIGITS,
    counts: [200, 300],
    labels: golden.i32("heldout/labels"),
    tokens: golden.i32("heldout/tokens"),
    ...parts,
  });
  return TokenSet.open(folder);
}

const first = (count: number) => Array.from({ length: count }, (_, image) => image);

describe("sensitivity", () => {
  test("half depth on the first hundred held-out digits, as recorded with the reference", async () => {
    const tokens = await heldout();
    const reports: { done: number; total: number }[] = [];
    const result = await measureSensitivity({
      model,
      tokens,
      images: first(100),
      onProgress: (report) => reports.push(report),
    });
    expect(result).toMatchObject({ images: 100, depth: 4, fullDepth: 8, sides: [1, 2, 3, 4, 6, 8] });
    expect(result.full.mean).toBeCloseTo(2.909, 3);
    expect(result.zones.map((zone) => [zone.first, zone.last])).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    const [early, middle, late] = result.zones.map(({ mean }) => mean) as [number, number, number];
    expect(early).toBeCloseTo(2.94, 3);
    expect(middle).toBeCloseTo(3.218, 3);
    expect(late).toBeCloseTo(3.949, 3);
    // Where things are measured twice they agree: the bridge of four is the late zone, that of five the last scale
    // alone.
    expect(result.bridges.map(({ bridge }) => bridge)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(result.bridges[4]!.mean).toBe(late);
    expect(result.bridges[5]!.mean).toBe(result.scales[5]!.mean);
    expect(result.bridges[6]).toMatchObject({ cost: 0, mean: result.full.mean });
    for (const { cost, mean, costPerToken, first: from, last } of [...result.scales, ...result.zones]) {
      expect(cost).toBe(mean - result.full.mean);
      const shallow = [1, 4, 9, 16, 36, 64].slice(from, last + 1).reduce((sum, area) => sum + area, 0);
      expect(costPerToken).toBeCloseTo((cost * 130) / shallow, 9);
    }
    expect(result.lossBudget).toBeCloseTo(0.9 * result.bridges[0]!.cost, 12);
    expect(result.recommendedBridge).toBe(recommendBridge(result.bridges, result.lossBudget));
    // 1 full, 6 scales, 3 zones, 6 bridges; two of the bridges are known already
    expect(reports.at(-1)).toEqual({ done: 1400, total: 1400 });
    expectWellFormed(sensitivityPlot(result));
  }, 300_000); // 1400 images: seconds, unless the machine has other work

  test("depth, zones and budget as they are asked for", async () => {
    const tokens = await heldout();
    const options = { model, tokens, images: first(6), depth: 2, zones: 2 };
    const result = await measureSensitivity({ ...options, lossBudget: 1000 });
    expect(result).toMatchObject({ depth: 2, recommendedBridge: 0, lossBudget: 1000 });
    expect(result.zones.map((zone) => [zone.first, zone.last])).toEqual([
      [0, 2],
      [3, 5],
    ]);
    expect((await measureSensitivity({ ...options, lossBudget: 0 })).recommendedBridge).toBe(6);
  });

  test("the shortest bridge within the budget, from which on every longer one is", () => {
    const bridges = [0.9, 0.3, 0.6, 0.4, 0.1, 0].map((cost, bridge) => ({ bridge, cost }));
    expect(recommendBridge(bridges, 1)).toBe(0);
    expect(recommendBridge(bridges, 0.6)).toBe(1);
    expect(recommendBridge(bridges, 0.5)).toBe(3); // 1 costs 0.3, but 2 does not hold
    expect(recommendBridge(bridges, 0.1)).toBe(4);
    expect(recommendBridge(bridges, 0)).toBe(5);
  });

  test("property: zones cover all scales, one after the other, as equal as they can be", () => {
    expect(zoneRanges(10, 3)).toEqual([
      [0, 2],
      [3, 5],
      [6, 9],
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(), (numScales, raw) => {
        const zones = zoneRanges(numScales, 1 + (raw % numScales));
        expect(zones[0]![0]).toBe(0);
        expect(zones.at(-1)![1]).toBe(numScales - 1);
        for (const [index, [start]] of zones.entries()) if (index > 0) expect(start).toBe(zones[index - 1]![1] + 1);
        const sizes = zones.map(([start, end]) => end - start + 1);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        expect(Math.min(...sizes)).toBeGreaterThan(0);
      }),
    );
  });
});

describe("evaluation", () => {
  test("every depth after the bridge equals model.score with that plan, whatever the batch", async () => {
    const tokens = await heldout();
    const images = [3, 250, 499, 250, 0];
    const batch = await tokens.read(images);
    const results = [2, 64].map((size) =>
      evaluateModel({ model, tokens, images, depths: [2, 4, 2], bridge: 3, batch: size }),
    );
    for (const result of await Promise.all(results)) {
      expect(result).toMatchObject({ images: 5, numTokens: 130, bridge: 3 });
      expect(result.depths.map(({ depth, trained }) => [depth, trained])).toEqual([
        [8, true],
        [4, false],
        [2, false],
      ]);
      for (const { depth, plan, mean, perScale, cost, standardError } of result.depths) {
        expect(plan).toEqual([8, 8, 8, depth, depth, depth]);
        const score = await model.score({ ...batch, labels: [...batch.labels], depth: plan });
        expect(mean).toBeCloseTo(score.mean, 6);
        expect(cost).toBeCloseTo(score.mean - result.depths[0]!.mean, 6);
        perScale.forEach((loss, scale) => {
          expect(loss).toBeCloseTo(score.perScale[scale]!, 6);
        });
        const average = score.perImage.reduce((sum, loss) => sum + loss, 0) / 5;
        const variance = score.perImage.reduce((sum, loss) => sum + (loss - average) ** 2, 0) / 4;
        expect(standardError).toBeCloseTo(Math.sqrt(variance / 5), 6);
      }
    }
  });

  test("a plain model is evaluated at full depth; a folder will do; one image has no spread", async () => {
    const tokens = await heldout();
    const result = await evaluateModel({ model, tokens: tokens.folder, limit: 1 });
    expect(result.depths).toMatchObject([{ depth: 8, cost: 0, trained: true, standardError: 0 }]);
    expect(result.tokens).toBe(tokens.folder);
  });

  test("limit spreads over the set", () => {
    const context = { fullDepth: 8, numScales: 6, bridge: 0, trainedDepths: [8], length: 1000 };
    const { indices } = resolveEvaluateSettings({ limit: 10 }, context);
    expect([...indices]).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    expect(resolveEvaluateSettings({ limit: 2000 }, context).indices.length).toBe(1000);
    expect(resolveEvaluateSettings({}, { ...context, bridge: 2, trainedDepths: [2, 4, 8] })).toMatchObject({
      depths: [8, 4, 2],
      bridge: 2,
    });
  });

  test("classes are found by name where the model knows them", async () => {
    const names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    const labels = golden.i32("heldout/labels");
    const sorted = [...names].sort();
    const renamed = Int32Array.from(labels, (digit) => sorted.indexOf(names[digit]!));
    const { loadModel } = await import("../lib/model/load.js");
    const bundled = await loadModel(undefined, { threads: 2 });
    try {
      expect(bundled.classNames).toEqual(names);
      const byPlace = await evaluateModel({ model: bundled, tokens: await heldout(), images: first(4) });
      const byName = await evaluateModel({
        model: bundled,
        tokens: await heldout({ classes: sorted, labels: renamed }),
        images: first(4),
      });
      expect(byName.depths[0]!.mean).toBe(byPlace.depths[0]!.mean);
    } finally {
      await bundled.dispose();
    }
  });

  test("tokens that do not belong to the model", async () => {
    const refused = async (parts: Partial<SetParts>, message: RegExp) => {
      const error = { code: "INVALID_TOKENS", message: expect.stringMatching(message) };
      await expect(evaluateModel({ model, tokens: await heldout(parts) })).rejects.toMatchObject(error);
      await expect(measureSensitivity({ model, tokens: await heldout(parts) })).rejects.toMatchObject(error);
    };
    await refused({ fingerprint: "00".repeat(32) }, /tokens of the tokenizer 000000000000/);
    await refused({ codebookSize: 1024 }, /a codebook of 1024/);
    await refused({ sides: [8, 6, 4, 3, 2, 1] }, /scales of 8, 6/);
    await refused({ classes: [...DIGITS, "ten"] }, /11 classes/);
    await expect(evaluateModel({ model, tokens: scratch() })).rejects.toMatchObject({ code: "INVALID_TOKENS" });
  });

  test("options", async () => {
    const tokens = await heldout();
    const refused = async (options: object, option: string) => {
      const evaluation = evaluateModel({ model, tokens, ...options } as never);
      await expect(evaluation).rejects.toMatchObject({ code: "INVALID_OPTION", option });
    };
    await refused({ model: null }, "model");
    await refused({ tokens: 5 }, "tokens");
    await refused({ depths: [] }, "depths");
    await refused({ depths: [4, 9] }, "depths[1]");
    await refused({ depths: [1] }, "depths[0]");
    await refused({ bridge: 7 }, "bridge");
    await refused({ limit: 0 }, "limit");
    await refused({ images: [500] }, "images[0]");
    await refused({ images: [1], limit: 1 }, "images");
    await refused({ batch: 0 }, "batch");
    await refused({ depth: 4 }, "depth");
    for (const [options, option] of [
      [{ zones: 7 }, "zones"],
      [{ depth: 1 }, "depth"],
      [{ lossBudget: -1 }, "lossBudget"],
      [{ bridge: 1 }, "bridge"],
    ] as const) {
      const measurement = measureSensitivity({ model, tokens, ...options } as never);
      await expect(measurement).rejects.toMatchObject({ code: "INVALID_OPTION", option });
    }
  });

  test("an aborted signal ends it", async () => {
    const tokens = await heldout();
    const stop = new AbortController();
    const running = evaluateModel({ model, tokens, batch: 10, signal: stop.signal, onProgress: () => stop.abort() });
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describe("plots", () => {
  test("property: ticks are round, ascending, and cover the range", () => {
    const value = fc.double({ min: -1e6, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(value, value, (a, b) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const marks = ticks(low, high);
        const slack = 1e-6 * (high - low) + 1e-9 * Math.max(-low, high) + 1e-100;
        expect(marks[0]!).toBeLessThanOrEqual(low + slack);
        expect(marks.at(-1)!).toBeGreaterThanOrEqual(high - slack);
        for (const [index, mark] of marks.entries()) if (index > 0) expect(mark).toBeGreaterThan(marks[index - 1]!);
        expect(marks.length).toBeLessThan(10);
      }),
    );
  });

  test("values below 0, one point, and words with markup", () => {
    const series = [
      { name: '<a> & "b"', points: [[0, -1] as const, [1, 2] as const], dots: true },
      { name: "", points: [[0.5, 0] as const], dash: "2 2" },
    ];
    const svg = plot({ title: "x < y", xLabel: "x", yLabel: "y", series });
    expectWellFormed(svg);
    expect(svg).toContain("&lt;a&gt; &amp; &quot;b&quot;");
    expect(svg.match(/<circle/g)?.length).toBe(2);
    const numbers = [...svg.matchAll(/c[xy]="([^"]+)"/g)].map((match) => Number(match[1]));
    for (const number of numbers) expect(number).toBeGreaterThan(0);
  });
});

/** Tags that open also close, attributes are quoted, no number went wrong. */
function expectWellFormed(svg: string): void {
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  const open: string[] = [];
  for (const [, close, name, attributes, alone] of svg.matchAll(/<(\/?)([a-z]+)((?:\s[\w-]+="[^"<]*")*)\s*(\/?)>/g)) {
    if (close) expect(open.pop()).toBe(name);
    else if (!alone) open.push(name!);
    expect(attributes).toBeDefined();
  }
  expect(open).toEqual([]);
  expect(svg.replace(/<[^>]*>/g, "")).not.toMatch(/[<>]/);
}
