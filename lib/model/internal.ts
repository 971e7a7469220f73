/** Keys of what is reachable for tests, but is no part of the public API. */

/** On a Model: the engine behind it and generation with {@link Overrides}. */
export const internal = Symbol("nextscale.internal");

/** On a ScaleEvent of a capturing generation: {@link Captured}. */
export const captured = Symbol("nextscale.captured");

/** Request fields that no public option sets. */
export interface Overrides {
  /** Scale events carry logits, feature map, next input and hidden states. */
  capture?: boolean;
  /** `[images, numTokens]`: the token, or -1 for one that is to be drawn. */
  givenTokens?: Int32Array;
}

/** Intermediate values of one scale. */
export interface Captured {
  logits: Float32Array; // [B, side², V] after guidance
  fHat: Float32Array; // [B, E, P, P]
  nextInput: Float32Array | null; // [B, next side², E]; null after the last scale
  hidden: Float32Array; // [1 + active blocks, R, side², C]
}
