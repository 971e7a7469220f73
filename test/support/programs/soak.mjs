// Generations in one process: resident memory after the first quarter and at the end. Usage: soak.mjs <generations>
import { openDigits } from "./model.mjs";

const total = Number(process.argv[2]);
const model = await openDigits();
const resident = () => {
  globalThis.gc();
  return process.memoryUsage().rss;
};
let early = 0;
for (let seed = 0; seed < total; seed++) {
  if (seed === Math.floor(total / 4)) early = resident();
  const images = await model
    .generate({ labels: [seed % 10, 10], seed, depth: { bridge: 2, subnet: 2 + (seed % 7) } })
    .images();
  if (images.length !== 2) throw new Error("two labels, two images");
}
const late = resident();
const { pool, running } = model.stats();
await model.dispose();
console.log(JSON.stringify({ early, late, usedBytes: pool.usedBytes, reservedBytes: pool.reservedBytes, running }));
