/**
 * A generation in which part of a picture is given: the same events and tokens, and images into which the kept pixels
 * went back.
 */

import { type EditPlan, type PreparedEdit, prepareEdit, restorePixels, seamLosses } from "../edit/edit.js";
import type { Image } from "../image/image.js";
import { Generation, type GenerationParts } from "./generation.js";

/** A picture of an edit. */
export interface Variant {
  /** Its number in events and tokens. */
  index: number;
  /** How much the seam surprises the model: mean loss of the drawn tokens beside kept ones, nats. */
  seamLoss: number;
}

/** What a model hands to an edit beside what any generation gets. */
export interface EditParts {
  plan: EditPlan;
  encode(pixels: Uint8ClampedArray): Promise<Int32Array>;
  /** `[count, numTokens]` -> the loss of every token. */
  score(tokens: Int32Array): Promise<Float32Array>;
}

/**
 * Made by {@link Model.edit}. `images()` come in the order of {@link ranking}; events and `tokens()` as they are drawn.
 */
export class EditGeneration extends Generation {
  readonly #edit: EditParts;
  readonly #prepared: Promise<PreparedEdit>;
  readonly #sides: readonly number[];
  #ranking: Promise<Variant[]> | undefined;
  #restored: Promise<Image[]> | undefined;

  /** @internal */
  constructor(
    parts: Omit<GenerationParts, "ready" | "start"> & { ready: Promise<unknown> | null },
    edit: EditParts,
    start: (
      given: Int32Array,
      onEvent: Parameters<GenerationParts["start"]>[0],
    ) => ReturnType<GenerationParts["start"]>,
  ) {
    const preparing = prepareEdit(edit.plan, edit.encode);
    let given: Int32Array | undefined;
    const ready = Promise.all([
      parts.ready,
      preparing.then((prepared) => {
        given = repeated(prepared.given, parts.count);
      }),
    ]);
    super({ ...parts, ready, start: (onEvent) => start(given!, onEvent) });
    this.#edit = edit;
    this.#prepared = preparing;
    this.#sides = parts.sides;
    preparing.catch(() => undefined); // whoever awaits the generation gets the error
  }

  /** The pictures, the one with the least surprising seam first. One variant is not scored: its loss is NaN. */
  ranking(): Promise<Variant[]> {
    if (this.#ranking === undefined) {
      this.#ranking = this.#rank();
      this.#ranking.catch(() => undefined);
    }
    return this.#ranking;
  }

  /** What the caller may not have meant, in words: a mask that draws everything, for one. Empty for most edits. */
  async notes(): Promise<string[]> {
    return (await this.#prepared).notes;
  }

  override images(): Promise<Image[]> {
    if (this.#restored === undefined) {
      this.#restored = this.#restore();
      this.#restored.catch(() => undefined);
    }
    return this.#restored;
  }

  async #rank(): Promise<Variant[]> {
    const tokens = await this.tokens();
    if (this.count === 1) return [{ index: 0, seamLoss: Number.NaN }];
    const losses = await this.#edit.score(tokens.flat);
    return seamLosses(await this.#prepared, losses, this.#sides)
      .map((seamLoss, index) => ({ index, seamLoss }))
      .sort((a, b) => a.seamLoss - b.seamLoss || a.index - b.index);
  }

  async #restore(): Promise<Image[]> {
    const [images, ranking] = await Promise.all([super.images(), this.ranking()]);
    restorePixels(await this.#prepared, this.#edit.plan, images);
    return ranking.map(({ index }) => images[index]!);
  }
}

function repeated(given: Int32Array, count: number): Int32Array {
  const all = new Int32Array(count * given.length);
  for (let image = 0; image < count; image++) all.set(given, image * given.length);
  return all;
}
