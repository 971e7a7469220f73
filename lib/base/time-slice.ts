/** Long loops in JavaScript give the event loop its turn: nothing here may hold it for more than 5 ms. */

import { setImmediate } from "node:timers/promises";

const SLICE_MS = 2;

export class TimeSlice {
  #start = performance.now();

  /** True when it is time to `await pause()`; cheap enough for every row of an inner loop. */
  get over(): boolean {
    return performance.now() - this.#start > SLICE_MS;
  }

  async pause(): Promise<void> {
    await setImmediate();
    this.#start = performance.now();
  }
}
