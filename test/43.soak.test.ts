import { expect, test } from "vitest";
import { childJson } from "./support/child.js";

interface Soak {
  early: number;
  late: number;
  usedBytes: number;
  reservedBytes: number;
  running: number;
}

test("200 generations in one process: resident memory is flat and the pool is empty", {
  timeout: 300_000,
}, async () => {
  const soak = await childJson<Soak>("programs/soak.mjs", ["200"], ["--expose-gc"]);
  expect(soak).toMatchObject({ usedBytes: 0, reservedBytes: 0, running: 0 });
  // 150 generations of two images: even one leaked feature map or picture each would be several MB.
  expect(soak.late - soak.early).toBeLessThan(6 * 2 ** 20);
});
