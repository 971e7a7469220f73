/**
 * One running generation: an async iterable of scale events with images at the end.
 *
 * Events are buffered, so a consumer that does not read never holds the engine back, and every iteration starts at the
 * first scale. A failure reaches each consumer that waits, as one and the same error; when nobody waits, nothing is
 * thrown.
 */

import { deferred } from "../base/deferred.js";
import { TimeSlice } from "../base/time-slice.js";
import { markUncloneable } from "../base/uncloneable.js";
import { AbortError, type CallSite, errorFromNative, wrapNative } from "../errors.js";
import { Image } from "../image/image.js";
import type { NativeEndEvent, NativeGeneration, NativeScaleEvent } from "../native/contract.js";
import { numTokens } from "../values/architecture.js";
import { TokenMaps } from "../values/tokens.js";
import type { ScaleEvent } from "./events.js";
import { captured } from "./internal.js";
import { type Child, onAbort } from "./lifecycle.js";
import type { GenerationLog } from "./observer.js";

/** What a model hands to a generation. */
export interface GenerationParts {
  sides: readonly number[];
  imageSide: number;
  count: number; // images
  seed: number | bigint;
  signal: AbortSignal | undefined;
  /** Work that must come before the start (fitting a preview), or null. */
  ready: Promise<unknown> | null;
  start(onEvent: (event: NativeScaleEvent | NativeEndEvent) => void): NativeGeneration;
  /** Throws on a bad depth. */
  checkDepth(depth: number): void;
  /** Throws when the model is gone. */
  requireAlive(): void;
  callSite: CallSite;
  log: GenerationLog;
}

/** Made by {@link Model.generate}; starts at once, whether or not anybody reads it. */
export class Generation implements AsyncIterable<ScaleEvent> {
  /** The seed in use: the one that was given, or the one that was drawn. */
  readonly seed: number | bigint;
  /** Number of images. */
  readonly count: number;
  /** Number of scales. */
  readonly numScales: number;

  readonly #parts: GenerationParts;
  readonly #events: ScaleEvent[] = [];
  readonly #settled = deferred();
  #changed = deferred();
  #outcome: { error: Error | null } | undefined;
  #native: NativeGeneration | undefined;
  #pendingDepth: number | undefined;
  #images: Promise<Image[]> | undefined;
  #abortDecode: (error: AbortError) => void = () => undefined;
  #unlisten: () => void = () => undefined;

  /** @internal */
  constructor(parts: GenerationParts) {
    this.#parts = parts;
    this.seed = parts.seed;
    this.count = parts.count;
    this.numScales = parts.sides.length;
    markUncloneable(this);
    this.#unlisten = onAbort(parts.signal, () => this.#stop(parts.signal?.reason));
    if (parts.ready === null) this.#launch();
    else
      parts.ready.then(
        () => this.#launch(),
        (error) => this.#settle(wrapNative(error)),
      );
  }

  /** The events of all scales, from the first one, as they come. Leaving the loop early cancels the generation. */
  [Symbol.asyncIterator](): AsyncIterableIterator<ScaleEvent> {
    let cursor = 0;
    let closed = false;
    const iterator: AsyncIterableIterator<ScaleEvent> = {
      next: async () => {
        const index = cursor++;
        while (!closed && index >= this.#events.length && this.#outcome === undefined) await this.#changed.promise;
        if (closed) return { done: true, value: undefined };
        const error = this.#outcome?.error ?? null;
        const event = this.#events[index];
        // A failure comes after what was drawn before it; who cancels wants no more scales.
        if (event !== undefined && !(error instanceof AbortError)) return { done: false, value: event };
        closed = true;
        if (error !== null) throw error;
        return { done: true, value: undefined };
      },
      return: async () => {
        closed = true;
        if (this.#events.length < this.numScales) this.#stop(undefined);
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** The finished images, one per label; decodes them at the first call. Needs no iteration. */
  images(): Promise<Image[]> {
    if (this.#images === undefined) {
      this.#images = this.#decode();
      this.#images.catch(() => undefined); // whoever awaits it gets the error; nobody else must crash of it
    }
    return this.#images;
  }

  /** The token maps of all scales, once they are drawn. */
  tokens(): Promise<TokenMaps> {
    const tokens = this.#finished().then(() => this.#collectTokens());
    tokens.catch(() => undefined);
    return tokens;
  }

  /**
   * Depth from the next scale on, for all later scales: 2..D. Returns false when no scale is left for it to act on.
   * Throws a PoolExhaustedError when the KV pool has no room for a raise; the generation then goes on as it was.
   */
  setDepth(depth: number): boolean {
    this.#parts.checkDepth(depth);
    if (this.#outcome !== undefined || this.#events.length >= this.numScales) return false;
    if (this.#native === undefined) {
      this.#pendingDepth = depth;
      return true;
    }
    try {
      this.#native.setDepth(depth);
    } catch (error) {
      this.#parts.log.depth(depth, false);
      throw wrapNative(error);
    }
    this.#parts.log.depth(depth, true);
    return true;
  }

  /** Stops within one block. Everything that waits rejects with an AbortError; a finished generation stays finished. */
  cancel(): void {
    this.#stop(undefined);
  }

  /** `await using`: cancels what still runs and waits until the engine has let go of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop(undefined);
    await this.#settled.promise;
  }

  /** @internal How the model's lifecycle sees it. */
  get child(): Child {
    return { abort: () => this.#stop(undefined, "the model was disposed"), settled: this.#settled.promise };
  }

  #launch(): void {
    if (this.#outcome !== undefined) {
      this.#settled.resolve(); // stopped before it started
      return;
    }
    try {
      this.#parts.requireAlive();
      this.#native = this.#parts.start((event) => this.#receive(event));
      this.#parts.log.request(this.#native.id);
      if (this.#pendingDepth !== undefined) this.setDepth(this.#pendingDepth);
    } catch (error) {
      this.#native?.cancel();
      this.#finish(wrapNative(error));
      this.#settled.resolve();
    }
  }

  #receive(event: NativeScaleEvent | NativeEndEvent): void {
    if (event.type === "scale") {
      if (this.#outcome !== undefined) return; // cancelled: what was in flight is not wanted
      this.#events.push(this.#toScaleEvent(event));
      this.#notify();
      this.#parts.log.scale(event);
      return;
    }
    const failure = event.code === null ? null : errorFromNative({ ...event, images: this.count });
    this.#finish(failure === null ? null : this.#parts.callSite.stamp(failure));
    this.#settled.resolve();
  }

  #stop(reason: unknown, message?: string): void {
    const error = this.#parts.callSite.stamp(
      new AbortError(message, reason === undefined ? undefined : { cause: reason }),
    );
    this.#abortDecode(error);
    if (this.#outcome !== undefined) return;
    this.#native?.cancel();
    this.#finish(error);
  }

  #settle(error: unknown): void {
    this.#finish(error);
    this.#settled.resolve();
  }

  #finish(error: unknown): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = { error: error === null ? null : (error as Error) };
    this.#unlisten();
    this.#notify();
    this.#parts.log.end(error, this.#events.length);
  }

  #notify(): void {
    const changed = this.#changed;
    this.#changed = deferred();
    changed.resolve();
  }

  async #finished(): Promise<void> {
    while (this.#outcome === undefined) await this.#changed.promise;
    if (this.#outcome.error !== null) throw this.#outcome.error;
  }

  async #decode(): Promise<Image[]> {
    await this.#finished();
    const { requireAlive, signal, count, imageSide } = this.#parts;
    requireAlive();
    if (this.#native === undefined) throw new AbortError();
    const size = imageSide * imageSide * 3;
    const pixels = new Uint8ClampedArray(count * size); // [B, S, S, 3]
    const job = this.#native.decode(pixels);
    const aborted = new Promise<never>((_, reject) => {
      this.#abortDecode = (error) => {
        job.cancel();
        reject(error);
      };
    });
    const unlisten = onAbort(signal, () => this.#stop(signal?.reason));
    try {
      await Promise.race([job.done, aborted]);
    } catch (error) {
      throw wrapNative(error);
    } finally {
      unlisten();
      this.#abortDecode = () => undefined;
    }
    return splitImages(pixels, imageSide);
  }

  #collectTokens(): TokenMaps {
    const { sides, count } = this.#parts;
    const perImage = numTokens(sides);
    const flat = new Int32Array(count * perImage);
    let offset = 0;
    for (const event of this.#events) {
      event.tokens.forEach((map, image) => {
        flat.set(map.data, image * perImage + offset);
      });
      offset += event.side * event.side;
    }
    return new TokenMaps(flat, sides);
  }

  #toScaleEvent(event: NativeScaleEvent): ScaleEvent {
    const { sides, count } = this.#parts;
    const { index, side, depth, reason, elapsedMs, scaleMs } = event;
    const area = side * side;
    const tokens = Array.from({ length: count }, (_, image) => ({
      side,
      data: event.tokens.subarray(image * area, (image + 1) * area),
    }));
    const previews = event.preview === null ? null : viewImages(event.preview, event.previewSide);
    const progress = numTokens(sides.slice(0, index + 1)) / numTokens(sides);
    const total = sides.length;
    const preview = previews?.[0] ?? null;
    const result: ScaleEvent = {
      index,
      total,
      side,
      depth,
      reason,
      elapsedMs,
      scaleMs,
      progress,
      tokens,
      previews,
      preview,
    };
    if (event.logits !== null) {
      const { logits, fHat, nextInput, hidden } = event;
      Object.defineProperty(result, captured, { value: { logits, fHat, nextInput, hidden } });
    }
    return result;
  }
}

/**
 * Pixels of a batch, `[B, side, side, 3]`, as images that own their pixels; a large batch takes several turns to copy.
 */
export async function splitImages(pixels: Uint8ClampedArray, side: number): Promise<Image[]> {
  const views = viewImages(pixels, side);
  if (views.length === 1) return views;
  const slice = new TimeSlice();
  const images: Image[] = [];
  for (const { data } of views) {
    images.push(new Image(side, side, data.slice()));
    if (slice.over) await slice.pause();
  }
  return images;
}

/** The same without a copy: all images share one buffer. */
function viewImages(pixels: Uint8ClampedArray, side: number): Image[] {
  const size = side * side * 3;
  const count = pixels.length / size;
  return Array.from(
    { length: count },
    (_, image) => new Image(side, side, pixels.subarray(image * size, (image + 1) * size)),
  );
}
