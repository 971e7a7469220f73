/** Keys of what is reachable for tests and for the rooms above, but is no part of the public API. */

/** On a Model: the engine behind it and generation with {@link Overrides}. */
export const internal = Symbol("nextscale.internal");

/** On a ScaleEvent of a capturing generation: {@link Captured}. */
export const captured = Symbol("nextscale.captured");

/** On a ScaleEvent of a generation with losses: `Float32Array [B, side²]`, nats. */
export const losses = Symbol("nextscale.losses");

/** Request fields that no public option sets. */
export interface Overrides {
  /** Scale events carry logits, feature map, next input and hidden states. */
  capture?: boolean;
  /** Teacher forcing: `[images, numTokens]`. */
  forcedTokens?: Int32Array;
  /** With forcedTokens: scale events carry the cross entropy of every token, without guidance. */
  losses?: boolean;
  /** Counter of the first image's random numbers. */
  firstImage?: number;
}

/** Intermediate values of one scale. */
export interface Captured {
  logits: Float32Array; // [B, side², V] after guidance
  fHat: Float32Array; // [B, E, P, P]
  nextInput: Float32Array | null; // [B, next side², E]; null after the last scale
  hidden: Float32Array; // [1 + active blocks, R, side², C]
}
