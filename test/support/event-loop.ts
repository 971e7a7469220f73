/** Longest time that the event loop was not free. */

import { setImmediate } from "node:timers/promises";

async function longestGap(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let done = false;
  const watch = (async () => {
    let last = performance.now();
    while (!done) {
      await setImmediate();
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
    }
  })();
  await work();
  done = true;
  await watch;
  return longest;
}

/**
 * The smallest longest gap of several rounds, ms: what the work itself does shows in every round, what the machine's other
 * processes and the collector do does not.
 */
export async function blockedMs(work: () => Promise<unknown>, rounds = 6): Promise<number> {
  let smallest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) smallest = Math.min(smallest, await longestGap(work));
  return smallest;
}
