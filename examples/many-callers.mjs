// Requests of any shape run together in one batch. Each draws the same tokens as alone, and none holds the others up.
import { loadModel } from "nextscale";

const model = await loadModel(undefined, {
  kvPool: { bytes: 32 * 2 ** 20 }, // a hard limit: who does not fit waits in line
  onEvent: (event) => event.type === "end" && console.log(`generation ${event.id} ended: ${event.code ?? "done"}`),
});

const impatient = new AbortController();
const callers = {
  one: model.generate({ labels: 0, seed: 1 }),
  shallow: model.generate({ labels: [1, 2, 3, 4], seed: 2, depth: { bridge: 3, subnet: 4 } }),
  hurried: model.generate({ labels: 5, seed: 3, depth: { deadlineMs: 50 } }),
  large: model.generate({ labels: Array(16).fill(8), seed: 4 }),
  cancelled: model.generate({ labels: 9, seed: 5, signal: impatient.signal }),
};
impatient.abort(new Error("the caller has gone"));

for (const [name, generation] of Object.entries(callers)) {
  try {
    console.log(`${name}: ${(await generation.images()).length} images`);
  } catch (error) {
    console.log(`${name}: ${error.code}, ${error.cause?.message}`);
  }
}
const { maxBatchRows, pool } = model.stats();
console.log(`largest batch: ${maxBatchRows} rows; pool: at most ${pool.peakBytes} of ${pool.capacityBytes} bytes`);
await model.dispose();
