/** `onEvent`: what generations do, told to one listener that can break nothing. */

import { bound, warnOnce } from "../base/listener.js";
import { NextscaleError } from "../errors.js";
import type { NativeScaleEvent } from "../native/contract.js";
import type { ResolvedGenerateOptions } from "../options/generate.js";
import type { ModelEvent } from "./events.js";

/** What is told of a request. */
export type Requested = Pick<ResolvedGenerateOptions, "conditions" | "seed" | "plan">;

/** The listener of one model, or none. */
export class Observer {
  readonly #listener: ((event: ModelEvent) => unknown) | undefined;
  readonly #warn = warnOnce("onEvent");

  constructor(listener: ((event: ModelEvent) => unknown) | undefined) {
    this.#listener = listener;
  }

  /** The log of one generation: its events come in the asynchronous context of the call that began it. */
  log(options: Requested): GenerationLog {
    if (this.#listener === undefined) return SILENT;
    return new Log(bound(this.#listener, this.#warn), options);
  }
}

/** What a generation reports; the ones before `request` are not told. */
export interface GenerationLog {
  request(id: number): void;
  scale(event: NativeScaleEvent): void;
  depth(depth: number, accepted: boolean): void;
  end(error: unknown, scales: number): void;
}

const SILENT: GenerationLog = { request() {}, scale() {}, depth() {}, end() {} };

class Log implements GenerationLog {
  readonly #tell: (event: ModelEvent) => void;
  readonly #options: Requested;
  #id: number | undefined;
  #requested = 0;
  #started = false;

  constructor(tell: (event: ModelEvent) => void, options: Requested) {
    this.#tell = tell;
    this.#options = options;
  }

  request(id: number): void {
    const { conditions, seed, plan } = this.#options;
    const deadlineMs = plan.deadlineMs > 0 ? plan.deadlineMs : null;
    this.#id = id;
    this.#requested = performance.now();
    this.#tell({ type: "request", id, images: conditions.count, seed, depths: [...plan.depths], deadlineMs });
  }

  scale({ index, depth, reason, scaleMs, elapsedMs }: NativeScaleEvent): void {
    const id = this.#id;
    if (id === undefined) return;
    if (!this.#started) {
      this.#started = true;
      this.#tell({ type: "start", id, waitedMs: Math.max(0, this.#sinceRequest - elapsedMs) });
    }
    this.#tell({ type: "scale", id, index, depth, reason, scaleMs, elapsedMs });
  }

  depth(depth: number, accepted: boolean): void {
    if (this.#id !== undefined) this.#tell({ type: "depth", id: this.#id, depth, accepted });
  }

  end(error: unknown, scales: number): void {
    if (this.#id === undefined) return;
    const code = error === null ? null : error instanceof NextscaleError ? error.code : "INTERNAL";
    this.#tell({ type: "end", id: this.#id, code, scales, totalMs: this.#sinceRequest });
  }

  get #sinceRequest(): number {
    return performance.now() - this.#requested;
  }
}
