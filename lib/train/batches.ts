/** The images of each step: an endless walk through the epochs, each in an order of its own. */

import { epochOrderInSlices } from "../data/order.js";
import type { TokenBatch, TokenSource } from "../values/token-source.js";
import { draw } from "./random.js";

export interface BatchOptions {
  seed: number;
  batch: number;
  labelDropout: number;
  /** The label of a dropped one. */
  numClasses: number;
}

export class Batches {
  readonly #orders = new Map<number, Promise<Uint32Array>>();

  constructor(
    readonly tokens: TokenSource,
    readonly options: BatchOptions,
  ) {}

  /** Images of a step: numbers `step·batch ...` of the walk, so that no epoch drops its last few. */
  async indicesAt(step: number): Promise<Uint32Array> {
    const { batch } = this.options;
    const { length } = this.tokens;
    const indices = new Uint32Array(batch);
    for (let image = 0; image < batch; ) {
      const position = step * batch + image;
      const order = await this.#orderOf(Math.floor(position / length));
      const begin = position % length;
      const part = order.subarray(begin, begin + batch - image); // up to the end of the epoch
      indices.set(part, image);
      image += part.length;
    }
    return indices;
  }

  async at(step: number): Promise<TokenBatch> {
    const { seed, labelDropout, numClasses } = this.options;
    const { tokens, labels } = await this.tokens.read(await this.indicesAt(step));
    const kept = labels.map((label, image) =>
      draw(seed, "labelDropout", step, image) < labelDropout ? numClasses : label,
    );
    return { tokens, labels: kept };
  }

  /** Two epochs are remembered: a batch may span the end of one, and the next batch is read ahead. */
  #orderOf(epoch: number): Promise<Uint32Array> {
    let order = this.#orders.get(epoch);
    if (order === undefined) {
      order = epochOrderInSlices(this.options.seed, epoch, this.tokens.length);
      for (const old of this.#orders.keys()) if (Math.abs(old - epoch) > 1) this.#orders.delete(old);
      this.#orders.set(epoch, order);
    }
    return order;
  }
}
