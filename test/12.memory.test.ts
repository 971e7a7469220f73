/** Opening packs the weights and gives the file's pages back: resident memory is about that of the weights, not twice that. */

import { readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { bundledModelPath, loadModel } from "../lib/index.js";

/** Resident bytes of all mappings of a file in this process. */
function residentBytesOf(path: string): number {
  let inside = false;
  let bytes = 0;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = line.endsWith(path);
    const resident = /^Rss:\s+(\d+) kB/.exec(line);
    if (inside && resident) bytes += Number(resident[1]) * 1024;
  }
  return bytes;
}

test.skipIf(process.platform !== "linux")("the mapped file's pages do not stay resident", async () => {
  const path = bundledModelPath();
  const model = await loadModel(path);
  try {
    await model.generate({ labels: 3, seed: 1 }).images();
    expect(readFileSync("/proc/self/maps", "utf8")).toContain(path); // still mapped: the encoder packs at its first use
    expect(residentBytesOf(path)).toBeLessThan(0.5 * statSync(path).size);
  } finally {
    await model.dispose();
  }
  expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(path);
});
