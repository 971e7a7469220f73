// A model of its own in each worker thread. Nothing is shared between them, and a worker may be terminated at any time.
// (One model serves many callers at once: several are for keeping services apart, not for speed.)
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { loadModel } from "nextscale";

if (isMainThread) {
  const workers = [2, 6].map((label) => new Worker(new URL(import.meta.url), { workerData: { label } }));
  for (const worker of workers) {
    worker.on("message", ({ label, width, height, pixels }) => {
      console.log(`a ${label} of ${width} × ${height}, ${pixels.byteLength} bytes handed over`);
    });
    worker.on("error", (error) => {
      throw error;
    });
  }
} else {
  const model = await loadModel(undefined, { threads: 1 });
  const { label } = workerData;
  const [{ width, height, data }] = await model.generate({ labels: label, seed: 1 }).images();
  const pixels = data.slice().buffer;
  parentPort.postMessage({ label, width, height, pixels }, [pixels]); // moved, not copied
  await model.dispose();
}
