/** Longest time that the event loop was not free, less the time in which the machine ran something else. */

import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";

/** Milliseconds that the main thread was ready to run and did not (Linux: second field of schedstat; elsewhere 0). */
class WaitedForACore {
  readonly #file: number | null;
  readonly #buffer = Buffer.alloc(96);

  constructor() {
    this.#file = process.platform === "linux" ? openSync("/proc/self/schedstat", "r") : null;
  }

  get ms(): number {
    if (this.#file === null) return 0;
    const length = readSync(this.#file, this.#buffer, 0, this.#buffer.length, 0);
    return Number(this.#buffer.toString("latin1", 0, length).split(" ")[1]) / 1e6;
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
  }
}

async function longestGap(work: () => Promise<unknown>): Promise<number> {
  const waited = new WaitedForACore();
  let longest = 0;
  let done = false;
  const watch = (async () => {
    let last = performance.now() - waited.ms;
    while (!done) {
      await setImmediate();
      const now = performance.now() - waited.ms;
      longest = Math.max(longest, now - last);
      last = now;
    }
  })();
  await work();
  done = true;
  await watch;
  waited.close();
  return longest;
}

/**
 * The smallest longest gap of several rounds, ms: what the work itself does shows in every round, what the collector
 * and a busy machine do does not. Stops at the first round below `enough`.
 */
export async function blockedMs(work: () => Promise<unknown>, enough: number, rounds = 12): Promise<number> {
  let smallest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds && smallest >= enough; round++) {
    smallest = Math.min(smallest, await longestGap(work));
  }
  return smallest;
}
