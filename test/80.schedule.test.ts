import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochOrder, epochOrderInSlices } from "../lib/data/order.js";
import { Batches } from "../lib/train/batches.js";
import { draw } from "../lib/train/random.js";
import { learningRateAt, Schedule, type ScheduleOptions, subnetRatio } from "../lib/train/schedule.js";
import { memoryTokens } from "./support/training.js";

const PAPER = { joint: 5, transition: 15, subnet: 10 };
const RATIO = { start: 0.2, end: 1 };

const OPTIONS: ScheduleOptions = {
  seed: 1,
  totalSteps: 3000,
  phases: PAPER,
  ratio: RATIO,
  subnets: [2, 4, 8],
  fullDepth: 16,
  numScales: 10,
  bridge: 6,
  learningRate: { peak: 1, schedule: "cosine", warmup: 0.1, start: 0.01, end: 0.1 },
};

describe("p(epoch)", () => {
  // E1 = 5, E2 = 20, E3 = 30: 0.2, then 0.2 + 0.8 (epoch - 5) / 15, then 1.
  test.each([
    [0, 0.2],
    [2.5, 0.2],
    [4.999, 0.2],
    [5, 0.2],
    [6.5, 0.28],
    [8, 0.36],
    [12.5, 0.6],
    [18.5, 0.92],
    [20, 1],
    [25, 1],
    [30, 1],
    [99, 1],
  ])("at epoch %d is %d", (epoch, expected) => {
    expect(subnetRatio(epoch, PAPER, RATIO)).toBeCloseTo(expected, 12);
  });

  test("has no step of infinite slope when a phase is empty", () => {
    const abrupt = { joint: 3, transition: 0, subnet: 1 };
    expect([2.9, 3, 3.5].map((epoch) => subnetRatio(epoch, abrupt, RATIO))).toEqual([0.2, 1, 1]);
    expect(subnetRatio(0, { joint: 0, transition: 10, subnet: 0 }, RATIO)).toBe(0.2);
    expect(subnetRatio(5, { joint: 0, transition: 10, subnet: 0 }, RATIO)).toBeCloseTo(0.6, 12);
  });

  test("never leaves start..end, and is a straight line between (property)", () => {
    const length = fc.double({ min: 0, max: 50, noNaN: true });
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(length, length, length, share, share, share, (joint, transition, subnet, start, end, at) => {
        const phases = { joint, transition, subnet };
        const p = subnetRatio(at * (joint + transition + subnet), phases, { start, end });
        expect(p).toBeGreaterThanOrEqual(Math.min(start, end) - 1e-12);
        expect(p).toBeLessThanOrEqual(Math.max(start, end) + 1e-12);
      }),
    );
  });

  test("a fixed ratio holds for all epochs, 0 never draws a subnet, 1 always does", () => {
    const fixed = (ratio: number) => new Schedule({ ...OPTIONS, ratio: { start: ratio, end: ratio } });
    const steps = Array.from({ length: 500 }, (_, index) => 6 * index);
    expect(new Set(steps.map((step) => fixed(0.1).at(step).ratio))).toEqual(new Set([0.1]));
    expect(new Set(steps.map((step) => fixed(0).at(step).depth))).toEqual(new Set([16]));
    expect(new Set(steps.map((step) => fixed(1).at(step).depth))).toEqual(new Set([2, 4, 8]));
  });
});

describe("draws", () => {
  test("are functions of (seed, step) alone: whatever was asked before", () => {
    const forward = new Schedule(OPTIONS);
    const all = Array.from({ length: 3000 }, (_, step) => forward.at(step));
    const other = new Schedule({ ...OPTIONS });
    for (const step of [2999, 0, 17, 1234, 17]) expect(other.at(step)).toEqual(all[step]);
    const moved = new Schedule({ ...OPTIONS, seed: 2 });
    expect(all.filter(({ depth, step }) => moved.at(step).depth !== depth).length).toBeGreaterThan(500);
  });

  test("follow p(epoch) and share the subnets evenly", () => {
    const schedule = new Schedule({ ...OPTIONS, totalSteps: 60_000 });
    const steps = Array.from({ length: 60_000 }, (_, step) => schedule.at(step));
    // Bins of 2000 steps: the count of subnet steps is binomial, within five standard deviations of its mean.
    for (let first = 0; first < steps.length; first += 2000) {
      const bin = steps.slice(first, first + 2000);
      const expected = bin.reduce((sum, { ratio }) => sum + ratio, 0);
      const variance = bin.reduce((sum, { ratio }) => sum + ratio * (1 - ratio), 0);
      const found = bin.filter(({ depth }) => depth < 16).length;
      expect(Math.abs(found - expected)).toBeLessThanOrEqual(5 * Math.sqrt(variance));
    }
    const subnetSteps = steps.filter(({ depth }) => depth < 16);
    for (const subnet of [2, 4, 8]) {
      const share = subnetSteps.filter(({ depth }) => depth === subnet).length / subnetSteps.length;
      expect(Math.abs(share - 1 / 3)).toBeLessThan(0.015);
    }
  });

  test("the choice of subnets does not change which steps train one", () => {
    const few = new Schedule({ ...OPTIONS, subnets: [2] });
    const many = new Schedule(OPTIONS);
    for (let step = 0; step < 1000; step++) expect(few.at(step).depth === 16).toBe(many.at(step).depth === 16);
  });

  test("streams, images and steps beyond 2^32 do not repeat each other", () => {
    const values = [
      draw(1, "subnet", 5),
      draw(1, "depth", 5),
      draw(1, "labelDropout", 5, 0),
      draw(1, "labelDropout", 5, 1),
      draw(1, "subnet", 5 + 2 ** 32),
      draw(1 + 2 ** 32, "subnet", 5),
    ];
    expect(new Set(values).size).toBe(values.length);
    for (const value of values) expect(value).toBeGreaterThanOrEqual(0);
    for (const value of values) expect(value).toBeLessThan(1);
  });
});

test("the bridge is at full depth, the rest at the drawn one", () => {
  const schedule = new Schedule({ ...OPTIONS, ratio: { start: 1, end: 1 } });
  const { depth, depths } = schedule.at(3);
  expect([...depths]).toEqual([16, 16, 16, 16, 16, 16, depth, depth, depth, depth]);
});

describe("learning rate", () => {
  const rate = { peak: 2, schedule: "linear" as const, warmup: 0.1, start: 0.01, end: 0.1 };

  test("rises in a line, is at its peak after the warm-up, and at its end in the last step", () => {
    expect(learningRateAt(0, 100, rate)).toBeCloseTo(0.02, 12);
    expect(learningRateAt(5, 100, rate)).toBeCloseTo(2 * (0.01 + 0.99 * 0.5), 12);
    expect(learningRateAt(10, 100, rate)).toBe(2);
    expect(learningRateAt(99, 100, rate)).toBeCloseTo(0.2, 12);
    const cosine = { ...rate, schedule: "cosine" as const, warmup: 0, end: 0 };
    expect(learningRateAt(0, 101, cosine)).toBe(2);
    expect(learningRateAt(50, 101, cosine)).toBeCloseTo(1, 12);
    expect(learningRateAt(25, 101, cosine)).toBeCloseTo(1 + Math.SQRT1_2, 12);
    expect(learningRateAt(100, 101, cosine)).toBeCloseTo(0, 12);
    expect(learningRateAt(77, 100, { ...rate, schedule: "constant" })).toBe(2);
  });

  test("is finite and never above the peak for any length, one step included (property)", () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const names = fc.constantFrom("cosine" as const, "linear" as const, "constant" as const);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        share,
        share,
        share,
        names,
        (total, warmup, start, end, schedule) => {
          for (let step = 0; step < total; step++) {
            const value = learningRateAt(step, total, { peak: 3, schedule, warmup, start, end });
            expect(value).toBeGreaterThanOrEqual(0);
            expect(value).toBeLessThanOrEqual(3 + 1e-9);
          }
        },
      ),
    );
  });
});

test("the order in slices is the order, and leaves the event loop its turns", async () => {
  for (const length of [0, 1, 2, 511, 512, 513, 1025, 5000]) {
    expect(await epochOrderInSlices(3, 1, length)).toEqual(epochOrder(3, 1, length));
  }
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await epochOrderInSlices(3, 1, 300_000);
  clearInterval(timer);
  expect(turns).toBeGreaterThan(10);
});

describe("batches", () => {
  const tokens = memoryTokens({ length: 10, fingerprint: "" });
  const batches = (seed: number, batch: number, labelDropout = 0) =>
    new Batches(tokens, { seed, batch, labelDropout, numClasses: 3 });

  test("walk through every image once per epoch, across the ends of epochs", async () => {
    const walk: number[] = [];
    for (let step = 0; step < 20; step++) walk.push(...(await batches(1, 3).indicesAt(step)));
    expect(walk.slice(20, 30)).toEqual([...epochOrder(1, 2, 10)]);
    for (let epoch = 0; epoch < 6; epoch++) {
      const images = walk.slice(10 * epoch, 10 * (epoch + 1));
      expect([...images].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    expect(walk.slice(0, 10)).not.toEqual(walk.slice(10, 20));
  });

  test("are functions of (seed, step): in any order, from any object", async () => {
    const one = batches(4, 4, 0.5);
    const forward = [];
    for (let step = 0; step < 12; step++) forward.push(await one.at(step));
    const other = batches(4, 4, 0.5);
    for (const step of [11, 3, 0, 7, 3]) expect(await other.at(step)).toEqual(forward[step]);
    expect(await batches(5, 4, 0.5).at(3)).not.toEqual(forward[3]);
  });

  test("drop labels at the rate that was asked for, and nothing else", async () => {
    let dropped = 0;
    for (let step = 0; step < 500; step++) {
      const { labels } = await batches(2, 8, 0.1).at(step);
      const kept = await batches(2, 8, 0).at(step);
      labels.forEach((label, image) => {
        if (label === 3) dropped++;
        else expect(label).toBe(kept.labels[image]);
      });
    }
    expect(Math.abs(dropped - 400)).toBeLessThan(5 * Math.sqrt(4000 * 0.1 * 0.9));
  });

  test("hold one image as often as they must when there is only one", async () => {
    const single = new Batches(memoryTokens({ length: 1, fingerprint: "" }), {
      seed: 0,
      batch: 5,
      labelDropout: 0,
      numClasses: 3,
    });
    expect([...(await single.indicesAt(7))]).toEqual([0, 0, 0, 0, 0]);
  });
});
