/** Item 19 of the log: numbers in the documents that a command can repeat, repeated. */

import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

test("the bounded part of npm run docs:check finds no drift", () => {
  const env = { ...process.env, NEXTSCALE_MNIST: "", NEXTSCALE_BASE: "" };
  const { status, stdout } = spawnSync(process.execPath, ["tools/docs-check.mjs"], { env, encoding: "utf8" });
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^[1-9]\d* right, 0 wrong/m)]);
});
