import { expect, test } from "vitest";
import { runChild } from "./support/child.js";

test.each([
  ["exit", 7, /^$/],
  ["throw", 1, /Error: planted/],
  ["forget", 0, /^$/],
])("a process that leaves in the middle of a generation (%s) ends with %i", async (how, code, stderr) => {
  const result = await runChild("programs/exit.mjs", [how]);
  expect(result).toMatchObject({ code, signal: null, stderr: expect.stringMatching(stderr) });
});
