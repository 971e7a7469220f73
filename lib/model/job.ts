/** Encoding and decoding under way: who may stop it, and what is told when it was stopped. */

import { AbortError, wrapNative } from "../errors.js";
import type { NativeJob } from "../native/contract.js";
import { type Lifecycle, onAbort } from "./lifecycle.js";

/**
 * Awaits a job of the core. The signal lets the caller go at once and stops the core within one picture and one layer;
 * disposal stops it likewise, and waits for it.
 */
export async function awaitJob(job: NativeJob, lifecycle: Lifecycle, signal: AbortSignal | undefined): Promise<void> {
  const settled = job.done.catch(() => undefined);
  lifecycle.adopt({ abort: () => job.cancel(), settled });
  let unlisten = () => {};
  const aborted = new Promise<never>((_, reject) => {
    unlisten = onAbort(signal, () => {
      job.cancel();
      reject(new AbortError(undefined, { cause: signal?.reason }));
    });
  });
  try {
    await Promise.race([job.done, aborted]);
  } catch (error) {
    throw wrapNative(error);
  } finally {
    unlisten();
  }
}
