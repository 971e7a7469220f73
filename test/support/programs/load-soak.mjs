// Random load for a while: every finished generation must have drawn what the same request draws alone. Usage:
// load-soak.mjs <seconds> [seed]. The pool has room for a part of the load only, so that generations wait, are refused
// and are cancelled in line, too.
import { openDigits } from "./model.mjs";

const seconds = Number(process.argv[2]);
let state = Number(process.argv[3] ?? 1);
const below = (limit) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const SHAPES = Array.from({ length: 24 }, (_, i) => ({
  labels: Array.from({ length: 1 + (i % 4) }, () => below(11)),
  seed: i,
  guidance: [0, 1.5, 4][i % 3],
  topK: [0, 50, 1][below(3)],
  depth: [8, 5, 2, { bridge: 2, subnet: 3 }, [8, 8, 2, 2, 8, 8], [2, 3, 4, 5, 6, 8]][i % 6],
  keepDroppedCache: i % 2 === 1,
}));

const probe = await openDigits({ threads: 1 });
const bytes = 6 * probe.peakBytes(8);
const alone = [];
for (const shape of SHAPES) alone.push((await probe.generate(shape).tokens()).flat);
await probe.dispose();

const model = await openDigits({ kvPool: { bytes } });
const result = { finished: 0, refused: 0, aborted: 0, switched: 0, wrong: 0, lost: 0, overBudget: 0 };
const active = new Set();

async function one() {
  const index = below(SHAPES.length);
  const controller = new AbortController();
  const kind = below(8); // 0: aborted, 1: changes its depth, 2: does not wait
  const generation = model.generate({ ...SHAPES[index], wait: kind !== 2, signal: controller.signal });
  let heard = 0;
  try {
    if (kind === 0) setTimeout(() => controller.abort(), below(60));
    if (kind < 3) {
      for await (const scale of generation) {
        heard++;
        if (kind === 1 && scale.index === below(5)) {
          try {
            generation.setDepth(2 + below(7));
          } catch (error) {
            if (error.code !== "POOL_EXHAUSTED") throw error;
          }
        }
      }
    }
    const { flat } = await generation.tokens();
    if (kind < 3 && heard !== generation.numScales) result.lost++;
    if (below(8) === 0) await generation.images();
    result.finished++;
    if (kind === 1) result.switched++;
    else if (flat.some((token, i) => token !== alone[index][i])) result.wrong++;
  } catch (error) {
    if (error.code === "ABORTED" && kind === 0) result.aborted++;
    else if (error.code === "POOL_EXHAUSTED" && kind === 2) result.refused++;
    else throw error;
  }
}

const resident = () => {
  globalThis.gc();
  return process.memoryUsage().rss;
};
const begin = performance.now();
const share = () => (performance.now() - begin) / (1000 * seconds);
// The allocator's high water moves by tens of MB with who happens to run: a dozen looks show it, one may miss it.
let early = 0;
let nextLook = 0.3;
while (share() < 1) {
  if (share() > nextLook && nextLook < 0.6) {
    early = Math.max(early, resident());
    nextLook = share() + 0.025;
  }
  const limit = 1 + below(16);
  while (active.size < limit) {
    const job = one().finally(() => active.delete(job));
    active.add(job);
  }
  await Promise.race([...active, pause(20)]);
  const { usedBytes, reservedBytes, capacityBytes } = model.pool;
  if (usedBytes > reservedBytes || reservedBytes > capacityBytes) result.overBudget++;
  await pause(below(10));
}
await Promise.all(active);
while (model.stats().running > 0) await pause(1);
const { pool, running, waiting } = model.stats();
// The least of a dozen looks: freed buffers leave a while after the collection, and what is lost stays in all of them.
let late = resident();
for (let look = 1; look < 12; look++) {
  await pause(50);
  late = Math.min(late, resident());
}
await model.dispose();
const { usedBytes, reservedBytes } = pool;
console.log(JSON.stringify({ ...result, early, late, running, waiting, usedBytes, reservedBytes }));
