/** Pictures that callers hand in, and their way to the numbers the encoder reads. */

import { isBytes } from "../base/kinds.js";
import { TimeSlice } from "../base/time-slice.js";
import { InvalidOptionError } from "../errors.js";
import { describe, fail } from "../options/check.js";

/** Anything with pixels in rows: an Image, a canvas' ImageData, sharp's raw output. */
export interface ImageLike {
  width: number;
  height: number;
  /** `[height, width, channels]`, 0..255. */
  data: Uint8Array | Uint8ClampedArray;
}

/** Checks one image or a list of them: each `side` by `side`, with 3 or 4 channels (a fourth one is ignored). */
export function checkImages(value: unknown, side: number): ImageLike[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) fail("image", value, "at least one image");
  list.forEach((image, index) => {
    checkImage(Array.isArray(value) ? `image[${index}]` : "image", image, side);
  });
  return list as ImageLike[];
}

function checkImage(option: string, value: unknown, side: number): void {
  if (typeof value !== "object" || value === null) fail(option, value, "{ width, height, data }");
  const { width, height, data } = value as Partial<ImageLike>;
  if (!isBytes(data)) {
    fail(`${option}.data`, data, "a Uint8Array or Uint8ClampedArray of pixels");
  }
  if (width !== side || height !== side) {
    const found = `${describe(width)} x ${describe(height)}`;
    throw new InvalidOptionError(option, found, `${side} x ${side} pixels, the size of this model's images`);
  }
  if (data.length !== side * side * 3 && data.length !== side * side * 4) {
    const expected = `${side * side * 3} (RGB) or ${side * side * 4} (RGBA) bytes`;
    throw new InvalidOptionError(`${option}.data`, `${data.length} bytes`, expected);
  }
}

/** `[count, 3, S, S]` in [-1, 1], without holding the event loop. */
export async function toPlanes(images: readonly ImageLike[], side: number): Promise<Float32Array> {
  const area = side * side;
  const planes = new Float32Array(images.length * 3 * area);
  const slice = new TimeSlice();
  for (const [index, { data }] of images.entries()) {
    const channels = data.length / area;
    for (let row = 0; row < side; row++) {
      for (let pixel = row * side; pixel < (row + 1) * side; pixel++) {
        const target = index * 3 * area + pixel;
        planes[target] = data[pixel * channels]! / 127.5 - 1;
        planes[target + area] = data[pixel * channels + 1]! / 127.5 - 1;
        planes[target + 2 * area] = data[pixel * channels + 2]! / 127.5 - 1;
      }
      if (slice.over) await slice.pause();
    }
  }
  return planes;
}
