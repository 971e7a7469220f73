/**
 * Draws of the training: a draw is a pure function of (seed, what for, step, image), so a run that was interrupted
 * continues with the same draws without any state to save.
 */

import { philox } from "../base/philox.js";

/**
 * Last word of the counter: draws for different ends do not meet, nor do they meet those of the order of the images.
 */
const STREAMS = { subnet: 0x7375626e, depth: 0x64657074, labelDropout: 0x64726f70 } as const;
export type Stream = keyof typeof STREAMS;

/** Uniform in [0, 1), 32 bits. @param image 0 .. 2^32-1 */
export function draw(seed: number, stream: Stream, step: number, image = 0): number {
  const out = new Uint32Array(4);
  philox(out, [image, step % 2 ** 32, Math.floor(step / 2 ** 32), STREAMS[stream]], BigInt(seed));
  return out[0]! / 2 ** 32;
}
