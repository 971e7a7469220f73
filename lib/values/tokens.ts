/** Token maps of images: one flat array for the core, one map per scale for people. */

import { types } from "node:util";
import { InvalidOptionError } from "../errors.js";
import { describe } from "../options/check.js";
import { type Architecture, numTokens } from "./architecture.js";

/** The codebook indices of one scale of one image, row by row: int32, side * side of them. */
export interface TokenMap {
  side: number;
  data: Int32Array;
}

/**
 * The token maps of one or more images: what {@link Model.encode} returns and {@link Model.decode} takes.
 * `flat` is `[images, numTokens]`, scales one after the other; everything else is a view of it.
 */
export class TokenMaps {
  /** Sides of the scales, ascending. */
  readonly sides: readonly number[];
  /** Number of images. */
  readonly count: number;
  /** `[count, numTokens]`, int32. */
  readonly flat: Int32Array;

  constructor(flat: Int32Array, sides: readonly number[]) {
    this.sides = sides;
    this.flat = flat;
    this.count = flat.length / numTokens(sides);
    if (!Number.isInteger(this.count)) {
      throw new InvalidOptionError("tokens", `${flat.length} tokens`, `a multiple of ${numTokens(sides)}`);
    }
  }

  /** Map of one scale of one image: a view, `side * side` tokens row by row. */
  map(image: number, scale: number): TokenMap {
    const side = this.sides[scale];
    if (side === undefined || !Number.isInteger(image) || image < 0 || image >= this.count) {
      throw new InvalidOptionError(
        "map",
        `image ${image}, scale ${scale}`,
        `0..${this.count - 1}, 0..${this.sides.length - 1}`,
      );
    }
    const start = image * numTokens(this.sides) + numTokens(this.sides.slice(0, scale));
    return { side, data: this.flat.subarray(start, start + side * side) };
  }

  /** `maps[image][scale]`, views. */
  get maps(): Int32Array[][] {
    return Array.from({ length: this.count }, (_, image) => this.sides.map((_, scale) => this.map(image, scale).data));
  }

  /** Tokens of one image as a TokenMaps of its own (a view). */
  image(index: number): TokenMaps {
    const length = numTokens(this.sides);
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new InvalidOptionError("image", describe(index), `an integer in 0..${this.count - 1}`);
    }
    return new TokenMaps(this.flat.subarray(index * length, (index + 1) * length), this.sides);
  }
}

/**
 * The flat array of TokenMaps, or the array itself; size and range of every token are checked. @throws
 * InvalidOptionError
 */
export function checkedTokens(
  option: string,
  value: unknown,
  architecture: Pick<Architecture, "numTokens" | "codebookSize">,
): Int32Array {
  const { numTokens: length, codebookSize } = architecture;
  const flat = value instanceof TokenMaps ? value.flat : value;
  if (!types.isInt32Array(flat)) throw new InvalidOptionError(option, describe(value), "TokenMaps or an Int32Array");
  if (flat.length === 0 || flat.length % length !== 0) {
    throw new InvalidOptionError(option, `${flat.length} tokens`, `a multiple of ${length}, the tokens of one image`);
  }
  const bad = firstOutside(flat, codebookSize);
  if (bad < 0) return flat;
  throw new InvalidOptionError(`${option}[${bad}]`, String(flat[bad]), `a token in 0..${codebookSize - 1}`);
}

/** Place of the first token that no codebook of this size has, or -1. */
export function firstOutside(tokens: Int32Array | Uint16Array, codebookSize: number): number {
  for (let index = 0; index < tokens.length; index++) {
    if (tokens[index]! < 0 || tokens[index]! >= codebookSize) return index;
  }
  return -1;
}
