// Leaves in the middle of a generation, in the way that is asked for.
import { openDigits } from "./model.mjs";

const model = await openDigits();
const generation = model.generate({ labels: Array(8).fill(1) });
for await (const scale of generation) {
  if (scale.index < 1) continue;
  if (process.argv[2] === "exit") process.exit(7);
  if (process.argv[2] === "throw") throw new Error("planted");
  break; // "forget": no dispose, nothing awaited; the process must end by itself
}
