/**
 * The pool against a simple model of it (test/support/pool-model.ts), byte for byte, under random plans and random
 * load.
 */

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { PoolExhaustedError } from "../lib/errors.js";
import type { ModelEvent } from "../lib/model/events.js";
import { loadModel } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import { loadBinding } from "../lib/native/binding.js";
import type { Strategy } from "../lib/values/architecture.js";
import { writePair } from "./support/checkpoint-files.js";
import { openGolden } from "./support/golden.js";
import { ExpectedUse, evenBlocks, type PoolCase, rowBytes, rowsByScale } from "./support/pool-model.js";
import { Random } from "./support/random-checkpoint.js";

const DTYPES = ["f32", "f16", "bf16"] as const;

function poolCase(model: Model, keepDropped: boolean): PoolCase {
  const { depth: fullDepth, sides } = model.architecture;
  const blocks = (depth: number) =>
    model.strategy === "even"
      ? evenBlocks(fullDepth, depth)
      : [...loadBinding().subnetBlocks(fullDepth, depth, "nested")];
  return { sides, keepDropped, blocks };
}

const randomDepths = (random: Random, fullDepth: number, numScales: number) => {
  const calm = random.below(2) === 0; // half of the plans: few changes, so that caches grow
  let depth = fullDepth;
  return Array.from({ length: numScales }, () => {
    if (!calm || random.below(3) === 0) depth = 2 + random.below(fullDepth - 1);
    return depth;
  });
};

/** The peak of its plan; nothing any more once the last scale has given everything back. */
function expectReserved(
  { usedBytes, reservedBytes }: { usedBytes: number; reservedBytes: number },
  peak: number,
): void {
  if (reservedBytes !== 0 || usedBytes !== 0) expect(reservedBytes).toBe(peak);
}

describe("peakBytes", () => {
  const shapes = [
    { depth: 2, sides: [1, 2, 4], width: 24, heads: 3 },
    { depth: 3, sides: [1], width: 16, heads: 2 },
    { depth: 5, sides: [2, 3], width: 32, heads: 4 },
    { depth: 7, sides: [1, 3, 4, 8], width: 12, heads: 1 },
    { depth: 11, sides: [1, 2, 3, 4, 5, 6], width: 16, heads: 2 },
    { depth: 30, sides: [1, 2, 3, 4, 5, 6, 8, 10, 13, 16], width: 8, heads: 1 },
  ];

  test.each(shapes)("$depth blocks, sides $sides: equals the model for 500 random plans", async (shape) => {
    const random = new Random(shape.depth);
    for (const [index, strategy] of (["even", "nested"] as Strategy[]).entries()) {
      const dtype = DTYPES[random.below(3)]!;
      const pair = writePair(`pool-${shape.depth}-${index}`, shape);
      const model = await loadModel(pair, { threads: 1, heads: shape.heads, strategy, kvPool: { dtype } });
      const parts = poolCase(model, false);
      for (let run = 0; run < 250; run++) {
        const depths = randomDepths(random, shape.depth, shape.sides.length);
        const guided = random.below(2) === 1;
        const use = new ExpectedUse(parts, depths, guided ? 2 : 1, rowBytes(shape.width, dtype));
        expect(model.peakBytes(depths, guided), `${strategy} ${dtype} ${depths}`).toBe(use.peak);
      }
      await model.dispose();
    }
  });

  test("the figures of the design, VAR-d30 at 256 pixels, in units of the naive cache", () => {
    const sides = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16];
    const parts = { sides, keepDropped: false, blocks: (depth: number) => evenBlocks(30, depth) };
    const share = (bridge: number, subnet: number) => {
      const depths = sides.map((_, scale) => (scale < bridge ? 30 : subnet));
      return (Math.max(...rowsByScale(parts, depths)) / (30 * 680)).toFixed(3);
    };
    expect([share(10, 30), share(6, 16), share(6, 8), share(6, 2)]).toEqual(["0.636", "0.345", "0.179", "0.134"]);
  });
});

describe("one generation at a time", () => {
  // Plans in ascending order of their peak: the pool's high-water mark is then the peak of the one that ran last.
  test.each([
    { keepDropped: false, strategy: "even" as const },
    { keepDropped: true, strategy: "even" as const },
    { keepDropped: true, strategy: "nested" as const },
  ])("peak and reservation are exact for 100 plans up and down, %o", async ({ keepDropped, strategy }) => {
    const random = new Random(keepDropped ? 5 : 6);
    const shape = { depth: 9, sides: [1, 2, 3, 4, 5], width: 16, heads: 2, numClasses: 3 };
    const model = await loadModel(writePair(`solo-${strategy}-${keepDropped}`, shape), { threads: 1, strategy });
    const parts = poolCase(model, keepDropped);
    const cases = new Map<number, { depths: number[]; images: number; guidance: number; use: ExpectedUse }>();
    while (cases.size < 100) {
      const depths = randomDepths(random, shape.depth, shape.sides.length);
      const images = 1 + random.below(4);
      const guidance = random.below(2);
      const use = new ExpectedUse(parts, depths, images * (1 + guidance), rowBytes(shape.width, "f32"));
      cases.set(use.peak, { depths, images, guidance, use });
    }
    for (const [peak, { depths, images, guidance, use }] of [...cases].sort((a, b) => a[0] - b[0])) {
      const labels = Array<number>(images).fill(1);
      const generation = model.generate({ labels, seed: 0, guidance, depth: depths, keepDroppedCache: keepDropped });
      for await (const { index } of generation) {
        const [now] = model.pool.generations;
        if (now === undefined) continue; // over already: the engine does not wait for its reader
        expectReserved(now, peak);
        expect(use.allows(now.usedBytes, index + 1), `${now.usedBytes} at scale ${index} of ${depths}`).toBe(true);
      }
      expect(model.pool, String(depths)).toMatchObject({ usedBytes: 0, reservedBytes: 0, peakBytes: peak });
    }
    await model.dispose();
  });
});

describe("setDepth without room", () => {
  test("carries what it needs, what there is and what would fit; the generation goes on as it was", async () => {
    const events: ModelEvent[] = [];
    const wide = await openGolden("digits");
    const [two, five, full] = [2, 5, 8].map((depth) => 8 * wide.peakBytes(depth));
    await wide.dispose();
    const options = { kvPool: { bytes: five! }, onEvent: (event: ModelEvent) => void events.push(event) };
    const model = await openGolden("digits", "var.pth", options);
    const generation = model.generate({ labels: Array<number>(8).fill(3), seed: 1, depth: 2 });
    let error: unknown;
    try {
      generation.setDepth(8); // before the first scale has ended: eight images take a while
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ name: "PoolExhaustedError", code: "POOL_EXHAUSTED", availableBytes: five });
    const { neededBytes, deepestFit, message } = error as PoolExhaustedError;
    expect(neededBytes).toBeGreaterThan(five!);
    expect(neededBytes).toBeLessThanOrEqual(full!);
    expect(two).toBeLessThan(five!);
    expect(deepestFit).toBeGreaterThanOrEqual(5); // 5 and no scale's rows are lost; a scale in, one more may fit
    expect(message).toContain(`depth ${deepestFit} would fit`);
    const depths: number[] = [];
    for await (const scale of generation) {
      depths.push(scale.depth);
      expect(scale.reason).toBe("plan");
    }
    expect(depths).toEqual(Array(6).fill(2));
    expect(generation.setDepth(8)).toBe(false); // over
    expect(events).toContainEqual({ type: "depth", id: expect.any(Number), depth: 8, accepted: false });
    const again = model.generate({ labels: Array<number>(8).fill(3), seed: 1, depth: 2 });
    expect(again.setDepth(deepestFit)).toBe(true);
    await again.tokens();
    expect(model.pool.peakBytes).toBeLessThanOrEqual(five!);
    await model.dispose();
  });
});

describe("random load", () => {
  interface Job {
    labels: number;
    guided: boolean;
    keep: boolean;
    wait: boolean;
    depths: number[];
    delayMs: number;
    abortAt: number; // scale after which it is aborted; beyond the last: never
    changes: { at: number; depth: number }[];
  }
  const depth = fc.integer({ min: 2, max: 8 });
  const job: fc.Arbitrary<Job> = fc.record({
    labels: fc.integer({ min: 1, max: 4 }),
    guided: fc.boolean(),
    keep: fc.boolean(),
    wait: fc.boolean(),
    depths: fc.array(depth, { minLength: 6, maxLength: 6 }),
    delayMs: fc.nat(30),
    abortAt: fc.oneof({ weight: 3, arbitrary: fc.constant(99) }, fc.nat(5)),
    changes: fc.array(fc.record({ at: fc.nat(5), depth }), { maxLength: 3 }),
  });
  const schedule = fc.record({
    share: fc.constantFrom(0.2, 0.5, 1, 3), // budget in units of four images at full depth
    jobs: fc.array(job, { minLength: 2, maxLength: 8 }),
  });

  let bytesPerImage: number;
  beforeAll(async () => {
    const model = await openGolden("digits");
    bytesPerImage = model.peakBytes(8);
    await model.dispose();
  });

  test("used ≤ reserved ≤ capacity, to the byte; each generation ends once; nothing is left", async () => {
    const outcomes = new Map<string, number>();
    let samples = 0;
    await fc.assert(
      fc.asyncProperty(schedule, async ({ share, jobs }) => {
        const world = await World.open(Math.floor(share * 4 * bytesPerImage));
        try {
          const results = await Promise.all(jobs.map((each) => world.run(each)));
          for (const outcome of results) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          samples += await world.finish();
        } finally {
          await world.model.dispose();
        }
      }),
      { numRuns: 60, seed: 46, interruptAfterTimeLimit: 12_000 },
    );
    expect(samples).toBeGreaterThan(200);
    // The schedules are hard enough to mean something: every way to end has happened.
    expect([...outcomes.keys()].sort()).toEqual(["ABORTED", "POOL_EXHAUSTED", "done"]);
  });

  /** A model with a budget, and everything that can be seen of its pool while jobs run. */
  class World {
    readonly failures: unknown[] = [];
    readonly ends = new Map<number, number>();
    readonly heard = new Map<number, number>();
    readonly samples: { id: number; usedBytes: number; reservedBytes: number; heard: number }[] = [];
    readonly expected = new Map<number, { use: ExpectedUse; parts: PoolCase; sequences: number; job: Job }>();
    readonly ran = new Map<number, number[]>();
    lastId = 0;
    model!: Model;

    static async open(bytes: number): Promise<World> {
      const world = new World();
      world.model = await openGolden("digits", "var.pth", {
        kvPool: { bytes },
        onEvent: (event) => world.listen(event),
      });
      return world;
    }

    /** A listener's exceptions are dropped by design: a failed expectation must reach the test another way. */
    listen(event: ModelEvent): void {
      try {
        this.see(event);
      } catch (error) {
        this.failures.push(error);
      }
    }

    see(event: ModelEvent): void {
      if (event.type === "request") this.lastId = event.id;
      if (event.type === "scale") {
        this.heard.set(event.id, event.index + 1);
        this.ran.set(event.id, [...(this.ran.get(event.id) ?? []), event.depth]);
      }
      if (event.type === "end") this.ends.set(event.id, (this.ends.get(event.id) ?? 0) + 1);
      this.sample();
    }

    sample(): void {
      if (this.model === undefined) return;
      const { capacityBytes, usedBytes, peakBytes, reservedBytes, generations } = this.model.pool;
      expect(usedBytes).toBeLessThanOrEqual(peakBytes);
      expect(peakBytes).toBeLessThanOrEqual(capacityBytes);
      expect(reservedBytes).toBeLessThanOrEqual(capacityBytes);
      const sum = (key: "usedBytes" | "reservedBytes") => generations.reduce((total, one) => total + one[key], 0);
      expect([sum("usedBytes"), sum("reservedBytes")]).toEqual([usedBytes, reservedBytes]);
      for (const one of generations) {
        expect(one.usedBytes).toBeLessThanOrEqual(one.reservedBytes);
        this.samples.push({ ...one, heard: this.heard.get(one.id) ?? 0 });
      }
    }

    async run(job: Job): Promise<string> {
      await new Promise((resolve) => setTimeout(resolve, job.delayMs));
      const { model } = this;
      const controller = new AbortController();
      const generation = model.generate({
        labels: Array<number>(job.labels).fill(7),
        seed: 9,
        guidance: job.guided ? 2 : 0,
        depth: job.depths,
        keepDroppedCache: job.keep,
        wait: job.wait,
        signal: controller.signal,
      });
      const parts = poolCase(model, job.keep);
      const sequences = job.labels * (job.guided ? 2 : 1);
      const bytesPerRow = rowBytes(model.architecture.width, "f32");
      const use = new ExpectedUse(parts, job.depths, sequences, bytesPerRow);
      this.expected.set(this.lastId, { use, parts, sequences, job });
      try {
        for await (const { index } of generation) {
          for (const change of job.changes) if (change.at === index) tryDepth(() => generation.setDepth(change.depth));
          if (job.abortAt === index) controller.abort();
          this.sample();
        }
        const images = await generation.images();
        expect(images.length).toBe(job.labels);
        return "done";
      } catch (error) {
        const { code } = error as { code: string };
        if (code === "POOL_EXHAUSTED") {
          const { neededBytes, availableBytes, deepestFit } = error as PoolExhaustedError;
          expect(neededBytes).toBe(use.peak);
          expect(availableBytes).toBeLessThanOrEqual(model.pool.capacityBytes);
          expect(deepestFit).toBeLessThanOrEqual(8);
          // Who waits is refused only what can never be.
          if (job.wait)
            expect(use.peak).toBeGreaterThan(Math.floor(model.pool.capacityBytes / bytesPerRow) * bytesPerRow);
        }
        return code;
      }
    }

    /** After the last job: nothing left, everyone ended once, and every sample explained by what really ran. */
    async finish(): Promise<number> {
      const { model, samples } = this;
      if (this.failures.length > 0) throw this.failures[0];
      // Who was aborted leaves within a block.
      for (let i = 0; i < 500 && model.stats().running > 0; i++) await new Promise((resolve) => setTimeout(resolve, 2));
      expect(model.stats()).toMatchObject({ running: 0, waiting: 0, pool: { usedBytes: 0, reservedBytes: 0 } });
      for (const { id, usedBytes, reservedBytes, heard } of samples) {
        const { parts, sequences, job, use } = this.expected.get(id)!;
        const ran = this.ran.get(id) ?? [];
        const complete = ran.length === model.architecture.numScales;
        if (job.changes.length === 0) expectReserved({ usedBytes, reservedBytes }, use.peak);
        if (!complete && job.changes.length > 0) continue; // its later depths are not known
        const real = new ExpectedUse(
          parts,
          complete ? ran : job.depths,
          sequences,
          rowBytes(model.architecture.width, "f32"),
        );
        expect(real.allows(usedBytes, heard), `${usedBytes} bytes after ${heard} scales of ${ran}`).toBe(true);
      }
      for (const id of this.expected.keys()) expect(this.ends.get(id)).toBe(1);
      return samples.length;
    }
  }

  function tryDepth(set: () => boolean): void {
    try {
      set();
    } catch (error) {
      expect(error).toMatchObject({ code: "POOL_EXHAUSTED" });
      const { neededBytes, availableBytes } = error as PoolExhaustedError;
      expect(neededBytes).toBeGreaterThan(availableBytes);
    }
  }
});
