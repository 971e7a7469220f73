/**
 * Callbacks of a caller. They run in the asynchronous context of the call that took them (AsyncLocalStorage), whatever
 * thread or job the news comes from, and they can break nothing: what one throws is worth a warning, never a crash or
 * lost work.
 */

import { AsyncResource } from "node:async_hooks";
import { types } from "node:util";
import { isError } from "./kinds.js";

type Callback<A extends unknown[]> = (...args: A) => unknown;

/** Tells a callback, from the context that is current now. Several may share one `warn`. */
export function bound<A extends unknown[]>(
  callback: Callback<A>,
  warn: (error: unknown) => void,
): (...args: A) => void {
  const context = new AsyncResource("nextscale");
  return (...args) => {
    try {
      const result = context.runInAsyncScope(callback, undefined, ...args);
      if (types.isPromise(result)) result.catch(warn);
    } catch (error) {
      warn(error);
    }
  };
}

/** Warns once of what a callback throws or rejects with. @param name of the option */
export function warnOnce(name: string): (error: unknown) => void {
  let warned = false;
  return (error) => {
    if (warned) return;
    warned = true;
    process.emitWarning(`${name} failed: ${isError(error) ? error.message : typeof error}`, "NextscaleWarning");
  };
}

/** A callback as an option of one call: bound to its context, warned about once. */
export function listener<A extends unknown[]>(name: string, callback: Callback<A>): (...args: A) => void {
  return bound(callback, warnOnce(name));
}
