/** Counts unhandled rejections while `work` runs and for some turns of the event loop after it. */

import { setTimeout as sleep } from "node:timers/promises";

export async function unhandledDuring(work: () => Promise<void>): Promise<unknown[]> {
  const seen: unknown[] = [];
  const listener = (reason: unknown) => void seen.push(reason);
  const others = process.listeners("unhandledRejection"); // the runner's own would fail the test first
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", listener);
  try {
    await work();
    await sleep(20);
  } finally {
    process.off("unhandledRejection", listener);
    for (const other of others) process.on("unhandledRejection", other);
  }
  return seen;
}

/** The error that a promise rejects with; fails when it does not. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("expected a rejection");
}
