/** Objects that live in one thread: posting them to another one must fail, not arrive as an empty shell. */

import * as threads from "node:worker_threads";

/**
 * Makes structuredClone and postMessage throw a DataCloneError for `object`. Older versions of Node have no word for
 * it: there a property that cannot be cloned does the same.
 */
export function markUncloneable(object: object): void {
  const { markAsUncloneable } = threads as { markAsUncloneable?: (object: object) => void };
  if (markAsUncloneable !== undefined) markAsUncloneable(object);
  else Object.defineProperty(object, "cannot be cloned", { value: Symbol("lives in one thread"), enumerable: true });
}
