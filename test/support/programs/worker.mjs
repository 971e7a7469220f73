// Greedy images in a worker thread; "loop" keeps generating until it is terminated.
import { parentPort, workerData } from "node:worker_threads";
import { openDigits } from "./model.mjs";

const model = await openDigits({ threads: 1 });
if (workerData.mode === "loop") {
  parentPort.postMessage("started");
  for (;;) await model.generate({ labels: Array(16).fill(3) }).images();
}
const tokens = await model.generate({ labels: workerData.labels, topK: 1, seed: 0 }).tokens();
await model.dispose();
parentPort.postMessage([...tokens.flat]);
