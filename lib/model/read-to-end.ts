/**
 * A native generation that nobody iterates: its events are read as they come, until it ends, is aborted or its model is
 * disposed.
 */

import { deferred } from "../base/deferred.js";
import { AbortError, type CallSite, errorFromNative, wrapNative } from "../errors.js";
import type { NativeGeneration, NativeModel, NativeRequest, NativeScaleEvent } from "../native/contract.js";
import { type Lifecycle, onAbort } from "./lifecycle.js";
import type { GenerationLog } from "./observer.js";

/** Where it runs, and who hears of it. */
export interface Run {
  native: Pick<NativeModel, "generate">;
  lifecycle: Lifecycle;
  signal: AbortSignal | undefined;
  callSite: CallSite;
  log: GenerationLog;
}

/**
 * Resolves behind the last scale. @throws what ended the generation early: AbortError, DisposedError,
 * PoolExhaustedError, ...
 */
export async function readToEnd(
  { native, lifecycle, signal, callSite, log }: Run,
  request: NativeRequest,
  onScale: (event: NativeScaleEvent) => void,
): Promise<void> {
  lifecycle.requireAlive();
  const ended = deferred(); // for the caller
  const settled = deferred(); // for the model: the engine has let go
  let running: NativeGeneration | undefined;
  let open = true;
  let scales = 0;
  const end = (error: Error | null) => {
    if (!open) return;
    open = false;
    log.end(error, scales);
    if (error === null) ended.resolve();
    else ended.reject(callSite.stamp(error));
  };
  const stop = (error: AbortError) => {
    running?.cancel();
    end(error);
  };
  const unlisten = onAbort(signal, () => stop(new AbortError(undefined, { cause: signal?.reason })));
  try {
    if (open) {
      running = native.generate(request, (event) => {
        if (event.type === "end") {
          end(event.code === null ? null : errorFromNative(event));
          settled.resolve();
        } else if (open) {
          onScale(event);
          scales++;
          log.scale(event);
        }
      });
      log.request(running.id);
      lifecycle.adopt({ abort: () => stop(new AbortError("the model was disposed")), settled: settled.promise });
    }
    await ended.promise;
  } catch (error) {
    throw wrapNative(error);
  } finally {
    unlisten();
  }
}
