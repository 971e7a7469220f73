/** Under load: the recorded depth schedules stay exact, and so does everything else, for as long as you like. */

import { expect, test } from "vitest";
import type { GenerateOptions } from "../lib/options/generate.js";
import { childJson } from "./support/child.js";
import { Golden, goldenConfig, openGolden } from "./support/golden.js";
import { Random } from "./support/random-checkpoint.js";

test.each(["tiny", "tiny-shared"] as const)("%s: recorded depth schedules, all at once among others", async (name) => {
  const golden = new Golden(name);
  const { subnets, var: shape } = goldenConfig(name);
  const labels = [...golden.i32("gen/labels")];
  const model = await openGolden(name);
  const { depth: fullDepth, numScales } = model.architecture;
  const random = new Random(47);
  const noise = (): Promise<unknown> => {
    const options: GenerateOptions = {
      labels: Array.from({ length: 1 + random.below(5) }, () => random.below(model.architecture.numClasses)),
      guidance: random.below(3),
      depth: Array.from({ length: numScales }, () => 2 + random.below(fullDepth - 1)),
    };
    const generation = model.generate(options);
    if (random.below(4) === 0) setTimeout(() => generation.cancel(), random.below(5));
    return generation.tokens().catch((error) => expect(error.code).toBe("ABORTED"));
  };
  for (let round = 0; round < 4; round++) {
    const others: Promise<unknown>[] = [];
    const recorded = subnets.map(async ({ name: run, depth_per_scale: depth }) => {
      for (let i = random.below(4); i > 0; i--) others.push(noise());
      await new Promise((resolve) => setTimeout(resolve, random.below(4)));
      const options = { labels, depth, guidance: 1.5, topK: 1, topP: 0, seed: 0, keepDroppedCache: true };
      for await (const { index, tokens, depth: ran } of model.generate(options)) {
        expect(ran).toBe(depth[index]);
        const drawn = tokens.flatMap((map) => [...map.data]);
        expect(drawn, `${run}, scale ${index}`).toEqual([...golden.i32(`sub/${run}/${index}/idx`)]);
      }
    });
    await Promise.all(recorded);
    await Promise.all(others);
  }
  expect(model.architecture.depth).toBe(shape.depth);
  await model.dispose();
});

interface Soak {
  finished: number;
  refused: number;
  aborted: number;
  switched: number;
  wrong: number;
  lost: number;
  overBudget: number;
  early: number;
  late: number;
}

// 20 s here, 60 s in CI, ten minutes before a release: NEXTSCALE_SOAK_SECONDS=600.
const seconds = Number(process.env.NEXTSCALE_SOAK_SECONDS ?? (process.env.CI === "true" ? 60 : 20));

test(`${seconds} s of random load: tokens as alone, memory flat, pool empty`, {
  timeout: 1000 * (seconds + 120),
}, async () => {
  const soak = await childJson<Soak>("programs/load-soak.mjs", [String(seconds)], ["--expose-gc"]);
  expect(soak).toMatchObject({ wrong: 0, lost: 0, overBudget: 0 });
  expect(soak).toMatchObject({ running: 0, waiting: 0, usedBytes: 0, reservedBytes: 0 });
  for (const kind of ["finished", "refused", "aborted", "switched"] as const)
    expect(soak[kind], kind).toBeGreaterThan(0);
  // Many hundreds of generations between the two: a lost feature map each would be many times as much. The allocator
  // alone moves it by some 20 MB either way.
  expect(soak.late - soak.early).toBeLessThan(40 * 2 ** 20);
});
