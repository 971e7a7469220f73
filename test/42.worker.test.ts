import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { childJson } from "./support/child.js";
import { openGolden } from "./support/golden.js";

const program = new URL("./support/programs/worker.mjs", import.meta.url);

function inWorker(labels: number[]): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(program, { workerData: { mode: "once", labels } });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

test("two worker threads at once draw what the main thread draws", async () => {
  const model = await openGolden("digits");
  const here = await Promise.all([[1, 2], [7]].map((labels) => model.generate({ labels, topK: 1, seed: 0 }).tokens()));
  const there = await Promise.all([inWorker([1, 2]), inWorker([7])]);
  expect(there).toEqual(here.map((tokens) => [...tokens.flat]));
  await model.dispose();
});

test("terminating a worker in the middle of a generation harms nobody", async () => {
  expect(await childJson("programs/terminate.mjs")).toEqual({ images: 1 });
});
