/** An opened tokenizer without a transformer: encode, decode, dispose. */

import { markUncloneable } from "../base/uncloneable.js";
import { wrapNative } from "../errors.js";
import type { Image } from "../image/image.js";
import { checkImages, type ImageLike, toPlanes } from "../image/planes.js";
import type { NativeModel } from "../native/contract.js";
import type { Architecture } from "../values/architecture.js";
import { checkedTokens, TokenMaps } from "../values/tokens.js";
import { splitImages } from "./generation.js";
import { Lifecycle } from "./lifecycle.js";

/** The part of an architecture that a tokenizer has. */
export type TokenizerArchitecture = Omit<
  Architecture,
  "depth" | "width" | "heads" | "mlpWidth" | "numClasses" | "sharedAda" | "l2Norm"
>;

/** What loadTokenizer knows when the core has opened the weights. */
export interface TokenizerParts {
  native: NativeModel;
  architecture: TokenizerArchitecture;
  fingerprint: string;
  threads: number;
}

/** Made by {@link loadTokenizer}. */
export class Tokenizer {
  readonly architecture: TokenizerArchitecture;
  /** See {@link Model.tokenizerFingerprint}. */
  readonly tokenizerFingerprint: string;
  /** Worker threads. */
  readonly threads: number;

  readonly #native: NativeModel;
  readonly #lifecycle: Lifecycle;

  /** @internal */
  constructor({ native, architecture, fingerprint, threads }: TokenizerParts) {
    this.architecture = architecture;
    this.tokenizerFingerprint = fingerprint;
    this.threads = threads;
    this.#native = native;
    markUncloneable(this);
    this.#lifecycle = new Lifecycle(() => native.dispose());
  }

  get disposed(): boolean {
    return this.#lifecycle.disposed;
  }

  /** Images -> token maps. Each image must have the tokenizer's size ({@link Architecture.imageSide}), RGB or RGBA. */
  async encode(images: ImageLike | ImageLike[]): Promise<TokenMaps> {
    this.#lifecycle.requireAlive();
    const { imageSide, numTokens, sides } = this.architecture;
    const list = checkImages(images, imageSide);
    const work = async () => {
      const planes = await toPlanes(list, imageSide);
      const flat = new Int32Array(list.length * numTokens);
      await this.#native.encode(planes, flat);
      return new TokenMaps(flat, sides);
    };
    return this.#inFlight(work());
  }

  /** Token maps -> images, one for each. */
  async decode(tokens: TokenMaps | Int32Array): Promise<Image[]> {
    this.#lifecycle.requireAlive();
    const { imageSide, numTokens } = this.architecture;
    const flat = checkedTokens("tokens", tokens, this.architecture);
    const pixels = new Uint8ClampedArray((flat.length / numTokens) * imageSide * imageSide * 3);
    await this.#inFlight(this.#native.decode(flat, pixels));
    return splitImages(pixels, imageSide);
  }

  /** Waits for what runs, frees the weights. Idempotent. */
  dispose(): Promise<void> {
    return this.#lifecycle.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #inFlight<T>(work: Promise<T>): Promise<T> {
    try {
      return await this.#lifecycle.during(work);
    } catch (error) {
      throw wrapNative(error);
    }
  }
}
