// The depth of the network is an option that may change between any two scales of a picture.
import { loadModel } from "nextscale";

const BUDGET_MS = 10; // so little that a slow machine will go down, and a fast one will not

const model = await loadModel();
const generation = model.generate({ labels: [1, 4, 9], seed: 5, depth: model.architecture.depth });
for await (const scale of generation) {
  console.log(`side ${scale.side}: ${scale.depth} blocks (${scale.reason}), ${scale.elapsedMs.toFixed(1)} ms`);
  // From the next scale on. The blocks that are left out give their cache back to the pool at once.
  if (scale.elapsedMs > BUDGET_MS && scale.depth > 2) generation.setDepth(Math.max(2, scale.depth / 2));
}
console.log(`${(await generation.images()).length} images`);

// Who knows the time beforehand lets the engine choose, from what it has measured on this machine.
const hurried = model.generate({ labels: 1, seed: 5, depth: { deadlineMs: 20 } });
for await (const scale of hurried) console.log(`side ${scale.side}: ${scale.depth} blocks (${scale.reason})`);
await model.dispose();
