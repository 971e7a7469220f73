/** A tokenizer, a model's or one alone: encode, decode, dispose. */

import { markUncloneable } from "../base/uncloneable.js";
import type { Image } from "../image/image.js";
import { checkImages, type ImageLike, toPlanes } from "../image/planes.js";
import type { NativeTokenizer } from "../native/contract.js";
import { checkObject, checkSignal, optional } from "../options/check.js";
import type { TokenizerArchitecture } from "../values/architecture.js";
import { checkedTokens, TokenMaps } from "../values/tokens.js";
import { splitImages } from "./generation.js";
import { awaitJob } from "./job.js";
import { Lifecycle } from "./lifecycle.js";

/** Options of encoding and decoding. */
export interface JobOptions {
  /** Stops the work within one picture; the promise rejects with an AbortError. */
  signal?: AbortSignal | undefined;
}

/** What a tokenizer is made of. */
export interface TokenizerParts {
  native: NativeTokenizer;
  architecture: TokenizerArchitecture;
  fingerprint: string;
  threads: number;
  warnings?: readonly string[];
  /** Of the model that it belongs to; a tokenizer alone has its own. */
  lifecycle?: Lifecycle;
}

/** Made by {@link loadTokenizer}; a model has one too ({@link Model.tokenizer}). */
export class Tokenizer {
  readonly architecture: TokenizerArchitecture;
  /** See {@link Model.tokenizerFingerprint}. */
  readonly tokenizerFingerprint: string;
  /** Worker threads. */
  readonly threads: number;
  /** What had to be assumed of the file: which weights were taken of several, say. */
  readonly warnings: readonly string[];

  readonly #native: NativeTokenizer;
  readonly #lifecycle: Lifecycle;
  readonly #isAlone: boolean;

  /** @internal */
  constructor({ native, architecture, fingerprint, threads, lifecycle, warnings = [] }: TokenizerParts) {
    this.architecture = architecture;
    this.tokenizerFingerprint = fingerprint;
    this.threads = threads;
    this.warnings = warnings;
    this.#native = native;
    markUncloneable(this);
    this.#isAlone = lifecycle === undefined;
    this.#lifecycle = lifecycle ?? new Lifecycle(() => native.dispose());
  }

  get disposed(): boolean {
    return this.#lifecycle.disposed;
  }

  /** Images -> token maps. Each image must have the tokenizer's size ({@link Architecture.imageSide}), RGB or RGBA. */
  async encode(images: ImageLike | ImageLike[], options?: JobOptions): Promise<TokenMaps> {
    this.#lifecycle.requireAlive();
    const { imageSide, numTokens, sides } = this.architecture;
    const list = checkImages(images, imageSide);
    const signal = signalOf(options);
    const work = async () => {
      const planes = await toPlanes(list, imageSide);
      const flat = new Int32Array(list.length * numTokens);
      await awaitJob(this.#native.encode(planes, flat), this.#lifecycle, signal);
      return new TokenMaps(flat, sides);
    };
    return this.#lifecycle.during(work());
  }

  /** Token maps -> images, one for each. */
  async decode(tokens: TokenMaps | Int32Array, options?: JobOptions): Promise<Image[]> {
    this.#lifecycle.requireAlive();
    const { imageSide, numTokens } = this.architecture;
    const flat = checkedTokens("tokens", tokens, this.architecture);
    const pixels = new Uint8ClampedArray((flat.length / numTokens) * imageSide * imageSide * 3);
    await awaitJob(this.#native.decode(flat, pixels), this.#lifecycle, signalOf(options));
    return splitImages(pixels, imageSide);
  }

  /**
   * Stops what runs, waits for it, frees the weights. Idempotent. A model's tokenizer goes with its model: not before.
   */
  async dispose(): Promise<void> {
    if (this.#isAlone) await this.#lifecycle.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

function signalOf(options: unknown): AbortSignal | undefined {
  const { signal } = checkObject("options", options, ["signal"]);
  return optional(signal, (value) => checkSignal("signal", value));
}
