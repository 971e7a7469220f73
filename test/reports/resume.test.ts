/** Item 10 of the log: what the weights do not depend on may change between the parts of a run. On the real trainer. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { train } from "../../lib/train/train.js";
import { smallBase, smallOptions, tensorsOf } from "../support/training.js";

test("a run goes on with other threads and another memory, and ends with the same bits", async () => {
  const base = await smallBase("threads");
  const whole = await train(smallOptions(base, { steps: 6, threads: 1 }));
  const controller = new AbortController();
  const options = smallOptions(base, { steps: 6, threads: 1 });
  const stopped = train({
    ...options,
    signal: controller.signal,
    onEvent: (event) => event.type === "step" && event.step === 3 && controller.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
  const rest = await train({ ...options, threads: 3, memory: 2 ** 31, resume: true });
  expect(tensorsOf(rest.model)).toEqual(tensorsOf(whole.model));
});

test("a run of a version that kept the bytes of the memory plan in its recipe goes on", async () => {
  const base = await smallBase("bytes");
  const options = smallOptions(base, { steps: 4, save: { everySteps: 1 } });
  await train(options);
  const path = join(options.output, "run.json");
  const record = JSON.parse(readFileSync(path, "utf8"));
  const { learningRate, optimizer, labelDropout, labelSmoothing, average, ...before } = record.plan.recipe;
  const after = { learningRate, optimizer, labelDropout, labelSmoothing, average };
  record.plan.recipe = { ...before, bytes: 12_345, ...after };
  delete record.plan.classes;
  writeFileSync(path, JSON.stringify(record));
  const again = await train({ ...options, threads: 2, resume: true });
  expect(again.steps).toBe(4);
  await expect(train({ ...options, resume: true, seed: 6 })).rejects.toThrow(/another seed/);
});
