import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PoolExhaustedError } from "../lib/errors.js";
import { defaultDepths, formatDepths, resolveDepth } from "../lib/options/depth.js";
import { fakeModel } from "./support/fake-engine.js";

const plain = { fullDepth: 30, numScales: 10, bridge: 0, trainedDepths: [30] };
const trained = { fullDepth: 30, numScales: 10, bridge: 6, trainedDepths: [2, 4, 8, 16, 30] };
const depths = (option: unknown, context = plain) => formatDepths(resolveDepth(option, context).depths);

describe("depth plans", () => {
  test("absent: full depth, bridge or not", () => {
    expect([depths(undefined), depths(undefined, trained)]).toEqual(["30×10", "30×10"]);
  });

  test("a number is the depth of every scale after the checkpoint's bridge", () => {
    expect([depths(16), depths(16, trained)]).toEqual(["16×10", "30×6, 16×4"]);
  });

  test("zones, a list", () => {
    expect(depths({ bridge: 7, subnet: 16 })).toBe("30×7, 16×3");
    expect(depths({ subnet: 8 })).toBe("8×10");
    expect(depths({ subnet: 8 }, trained)).toBe("30×6, 8×4");
    expect(depths({ bridge: 0, subnet: 8 }, trained)).toBe("8×10");
    expect(depths([30, 30, 8, 8, 8, 2, 2, 2, 2, 30])).toBe("30×2, 8×3, 2×4, 30×1");
  });

  test("a deadline: the ceiling is full depth in the bridge and the deepest choice after it", () => {
    const given = resolveDepth({ deadlineMs: 400, bridge: 2, depths: [8, 4] }, plain);
    expect(formatDepths(given.depths)).toBe("30×2, 8×8");
    expect([given.deadlineMs, [...given.deadlineDepths]]).toEqual([400, [4, 8, 30]]);
    expect([...resolveDepth({ deadlineMs: 1 }, trained).deadlineDepths]).toEqual([2, 4, 8, 16, 30]);
    expect([...resolveDepth({ deadlineMs: 1 }, plain).deadlineDepths]).toEqual([2, 4, 8, 16, 30]);
    expect(defaultDepths(1)).toEqual([1]);
  });

  test("property: every zone plan is D up to the bridge and the subnet after it", () => {
    const cases = fc.integer({ min: 1, max: 40 }).chain((fullDepth) =>
      fc.record({
        fullDepth: fc.constant(fullDepth),
        subnet: fc.integer({ min: Math.min(2, fullDepth), max: fullDepth }),
        numScales: fc.integer({ min: 1, max: 14 }),
        bridge: fc.nat(14),
      }),
    );
    fc.assert(
      fc.property(cases, ({ fullDepth, subnet, numScales, bridge: wanted }) => {
        const bridge = Math.min(wanted, numScales);
        const context = { fullDepth, numScales, bridge: 0, trainedDepths: [fullDepth] };
        const zones = [...resolveDepth({ bridge, subnet }, context).depths];
        const list = Array.from({ length: numScales }, (_, k) => (k < bridge ? fullDepth : subnet));
        expect(zones).toEqual(list);
        expect([...resolveDepth(list, context).depths]).toEqual(list);
        expect([...resolveDepth(subnet, { ...context, bridge }).depths]).toEqual(list);
      }),
    );
  });
});

describe("changing depth while it runs", () => {
  test("setDepth reaches the core between scales", async () => {
    const { model } = fakeModel();
    const generation = model.generate();
    const seen: string[] = [];
    for await (const scale of generation) {
      seen.push(`${scale.depth} ${scale.reason}`);
      if (scale.index === 0) expect(generation.setDepth(4)).toBe(true);
    }
    expect(seen[0]).toBe("8 plan");
    expect(seen.at(-1)).toBe("4 set");
  });

  test("a late setDepth is harmless and says so", async () => {
    const { model, engine } = fakeModel();
    const generation = model.generate();
    await generation.images();
    expect(generation.setDepth(4)).toBe(false);
    expect(engine.log).toEqual(["decode"]);
  });

  test("a raise that does not fit throws a PoolExhaustedError and the generation goes on", async () => {
    const { model, engine } = fakeModel();
    engine.depthFailure = { code: "POOL_EXHAUSTED", neededBytes: 9, availableBytes: 5, deepestFit: 4 };
    const generation = model.generate({ depth: 2 });
    const attempt = () => generation.setDepth(8);
    expect(attempt).toThrowError(PoolExhaustedError);
    expect(generation.setDepth(4)).toBe(true);
    expect((await generation.images()).length).toBe(1);
  });

  test("the figures of a pool failure are fields", () => {
    const { model, engine } = fakeModel();
    engine.depthFailure = { code: "POOL_EXHAUSTED", neededBytes: 9, availableBytes: 5, deepestFit: 4 };
    try {
      model.generate().setDepth(8);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: "POOL_EXHAUSTED", neededBytes: 9, availableBytes: 5, deepestFit: 4 });
    }
  });

  test("model.setDepth changes what starts later, and only that", async () => {
    const { model, engine } = fakeModel();
    model.generate();
    model.setDepth({ bridge: 1, subnet: 4 });
    model.generate();
    model.generate({ depth: 2 });
    expect(engine.requests.map((request) => formatDepths(request.depths))).toEqual(["8×4", "8×1, 4×3", "2×4"]);
    await model.dispose();
  });

  test("peakBytes counts two sequences for a guided image and one without", () => {
    const { model } = fakeModel();
    expect([model.peakBytes(8), model.peakBytes(8, false)]).toEqual([64, 32]);
  });
});
