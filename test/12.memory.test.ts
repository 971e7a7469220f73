/** Opening reads tensor by tensor and packs: resident memory is about that of the weights, not twice that. */

import { readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { bundledModelPath, loadModel } from "../lib/index.js";
import { writePair } from "./support/checkpoint-files.js";
import { childJson } from "./support/child.js";

const linux = process.platform === "linux";

test.skipIf(!linux)("no part of the file is mapped, neither while the model lives nor afterwards", async () => {
  const path = bundledModelPath();
  const model = await loadModel(path);
  try {
    await model.generate({ labels: 3, seed: 1 }).images();
    expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(path);
  } finally {
    await model.dispose();
  }
});

test.skipIf(!linux)("the peak of loading is the weights and one tensor", async () => {
  const pair = writePair("peak", { width: 512, heads: 8, depth: 4 });
  const weights = statSync(pair.var).size + statSync(pair.tokenizer).size;
  const largest = 4 * 6 * 512 * 512; // ada_lin
  const { grown } = await childJson<{ grown: number }>("programs/peak-of-load.mjs", [JSON.stringify(pair)]);
  expect(grown).toBeGreaterThan(0.9 * weights); // else nothing was measured
  expect(grown).toBeLessThan(1.08 * weights + largest);
});
