// Terminates workers in the middle of a generation, several times; the process must live and still generate.
import { Worker } from "node:worker_threads";
import { openDigits } from "./model.mjs";

for (let round = 0; round < 4; round++) {
  const worker = new Worker(new URL("./worker.mjs", import.meta.url), { workerData: { mode: "loop" } });
  await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await new Promise((resolve) => setTimeout(resolve, 20 + 15 * round));
  await worker.terminate();
}
const model = await openDigits();
const images = await model.generate({ labels: 3 }).images();
await model.dispose();
console.log(JSON.stringify({ images: images.length }));
