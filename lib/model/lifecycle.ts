/**
 * Parent and children: disposing a model aborts what runs under it, waits for it, then frees the core's memory, once.
 * Work on a disposed model throws a DisposedError.
 */

import { DisposedError } from "../errors.js";

/** Something that runs under a model and can be told to stop. */
export interface Child {
  /** Tells it to stop; must not throw. */
  abort(): void;
  /** Resolves when it has stopped, whatever the outcome; never rejects. */
  readonly settled: Promise<void>;
}

export class Lifecycle {
  readonly #children = new Set<Child>();
  readonly #release: () => Promise<void>;
  #disposal: Promise<void> | undefined;

  /** `release` frees the native side; it runs after every child has settled. */
  constructor(release: () => Promise<void>) {
    this.#release = release;
  }

  get disposed(): boolean {
    return this.#disposal !== undefined;
  }

  /** Precondition of every call. */
  requireAlive(): void {
    if (this.#disposal !== undefined) throw new DisposedError();
  }

  /** Registers work; it leaves by itself when it settles. */
  adopt<T extends Child>(child: T): T {
    this.#children.add(child);
    void child.settled.then(() => this.#children.delete(child));
    return child;
  }

  /** Counts a promise as work in flight: disposal waits for it. */
  async during<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.adopt({ abort: () => undefined, settled });
    return work;
  }

  /** Idempotent: every call returns the same promise. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#disposeOnce();
    return this.#disposal;
  }

  async #disposeOnce(): Promise<void> {
    await null; // `disposed` is true before any child hears of it
    const children = [...this.#children];
    for (const child of children) child.abort();
    const released = this.#release(); // the core itself aborts and waits: jobs that have no handle end here too
    await Promise.all(children.map((child) => child.settled));
    await released;
  }
}

/** Runs `listener` when the signal aborts (at once when it already has); returns what removes it again. */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    listener();
    return () => undefined;
  }
  signal.addEventListener("abort", listener, { once: true });
  return () => signal.removeEventListener("abort", listener);
}
