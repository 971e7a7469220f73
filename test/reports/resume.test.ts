/** Item 10 of the log: what the weights do not depend on may change between the parts of a run. On the real trainer. */

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { exportRun } from "../../lib/train/index.js";
import { train } from "../../lib/train/train.js";
import { runFolder, smallBase, smallOptions, tensorsOf } from "../support/training.js";

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
  const { learningRate, optimizer, labelDropout, labelSmoothing, averageDecay, ...before } = record.plan.recipe;
  const after = { learningRate, optimizer, labelDropout, labelSmoothing, averageDecay };
  record.plan.recipe = { ...before, bytes: 12_345, ...after };
  delete record.plan.classes;
  writeFileSync(path, JSON.stringify(record));
  const again = await train({ ...options, threads: 2, resume: true });
  expect(again.steps).toBe(4);
  await expect(train({ ...options, resume: true, seed: 6 })).rejects.toThrow(/another seed/);
});

/**
 * What the version wrote that called them `average` and `optimizer.clip`: in run.json, and as the hash of its
 * checkpoints.
 */
function withFormerNames(recorded: Record<string, unknown>): Record<string, unknown> {
  const { averageDecay, optimizer, ...rest } = recorded;
  const { clipNorm, ...moments } = optimizer as Record<string, unknown>;
  const entries = Object.entries(recorded).map(([name]) => {
    if (name === "averageDecay") return ["average", averageDecay];
    return name === "optimizer" ? [name, { ...moments, clip: clipNorm }] : [name, rest[name]];
  });
  return Object.fromEntries(entries);
}

test("a run of the version that said average and clip goes on, is refused with others, and is exported", async () => {
  const base = await smallBase("names");
  const options = smallOptions(base, { steps: 6, optimizer: { clipNorm: 0.5 } });
  const whole = await train(options);
  const record = JSON.parse(readFileSync(join(options.output, "run.json"), "utf8"));
  const recipe = withFormerNames(record.plan.recipe);
  expect(recipe).toMatchObject({ average: 0.9, optimizer: { clip: 0.5 } });
  expect(JSON.stringify(recipe)).not.toMatch(/averageDecay|clipNorm/);
  const hash = createHash("sha256").update(JSON.stringify(recipe)).digest("hex");
  const former = { ...record, options: withFormerNames(record.options), plan: { ...record.plan, recipe, hash } };
  const output = runFolder();
  mkdirSync(output);
  writeFileSync(join(output, "run.json"), JSON.stringify(former));

  const controller = new AbortController();
  const resumed = { ...options, output, resume: true };
  const stopped = train({
    ...resumed,
    signal: controller.signal,
    onEvent: (event) => event.type === "step" && event.step === 3 && controller.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
  await expect(train({ ...resumed, averageDecay: 0.5 })).rejects.toThrow(/another averageDecay$/);
  await expect(train({ ...resumed, optimizer: { clipNorm: 1 } })).rejects.toThrow(/another optimizer$/);
  const rest = await train(resumed);
  expect(tensorsOf(rest.model)).toEqual(tensorsOf(whole.model));
  const exported = join(output, "exported.safetensors");
  await exportRun(output, { output: exported });
  expect(tensorsOf(exported)).toEqual(tensorsOf(whole.model));
});
