/** An image file of any size and format -> the square of RGB pixels that a tokenizer sees. */

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { Place } from "../files/place.js";
import { loadSharp, toRgb } from "../image/image.js";
import type { ImageLike } from "../image/planes.js";
import type { PictureSettings } from "./manifest.js";

/** Where the square lies in a picture: sizes after scaling, and the corner of what is kept. */
export interface Placement {
  /** Size after scaling, before cropping. */
  width: number;
  height: number;
  /** What is kept of it. */
  left: number;
  top: number;
  keptWidth: number;
  keptHeight: number;
  /** Where it lies in the square; the rest is black. */
  padLeft: number;
  padTop: number;
}

/** Pixels of a picture after scaling: a line of 1 x 100,000 would become too many. */
const MAX_PIXELS = 2 ** 28;

/** What Node reads in one piece. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/**
 * Reads one picture: upright by its EXIF tag, in sRGB (grey, CMYK, palette and 16-bit pictures are converted),
 * transparency on black, the first page of several.
 *
 * @param at two numbers in [0, 1): which part a crop keeps
 * @throws whatever sharp or the file system has to say: only {@link judged} knows whose fault it is
 */
export async function readPicture(
  place: Place,
  settings: PictureSettings,
  at: readonly [number, number],
  mirrored: boolean,
): Promise<ImageLike> {
  const stats = await stat(place);
  if (!stats.isFile()) throw new Error("not a regular file"); // a pipe would never end
  if (stats.size > MAX_FILE_BYTES) throw new Error(`a file of ${stats.size} bytes`);
  // Read here and not by the codec: the system then says what it refuses in a code, not as "unsupported image format".
  return decodePicture(await readFile(place), settings, at, mirrored);
}

/** The second half: pixels of a file's bytes. */
export async function decodePicture(
  bytes: Uint8Array,
  settings: PictureSettings,
  at: readonly [number, number],
  mirrored: boolean,
): Promise<ImageLike> {
  const sharp = await loadSharp();
  const pipeline = sharp(bytes).autoOrient();
  const { autoOrient: size } = await pipeline.metadata();
  const { side } = settings;
  const kept = placement(size.width, size.height, settings, at);
  const { width, height, left, top, keptWidth, keptHeight } = kept;
  if (width * height > MAX_PIXELS) throw new Error(`${size.width} x ${size.height} pixels cannot be scaled to ${side}`);
  const scaled = width === size.width && height === size.height;
  const resized = scaled ? pipeline : pipeline.resize(width, height, { fit: "fill" });
  const whole = keptWidth === width && keptHeight === height;
  const cut = whole ? resized : resized.extract({ left, top, width: keptWidth, height: keptHeight });
  const { data, info } = await cut
    .toColourspace("srgb")
    .flatten({ background: "#000" })
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  const square = lay(toRgb(data, info.channels), kept, side);
  return { width: side, height: side, data: mirrored ? mirror(square, side) : square };
}

/** Sizes and offsets for a picture of `width` x `height`. */
export function placement(
  width: number,
  height: number,
  { fit, side, resize }: Pick<PictureSettings, "fit" | "side" | "resize">,
  at: readonly [number, number],
): Placement {
  const target = fit === "cover" ? resize : side;
  const factor =
    fit === "pad" ? 1 : fit === "cover" ? target / Math.min(width, height) : target / Math.max(width, height);
  const least = fit === "cover" ? target : 1;
  const scaled = (length: number) => (fit === "fill" ? side : Math.max(least, Math.round(length * factor)));
  const [w, h] = [scaled(width), scaled(height)];
  const keptWidth = Math.min(w, side);
  const keptHeight = Math.min(h, side);
  return {
    width: w,
    height: h,
    left: Math.floor(at[0] * (w - keptWidth + 1)),
    top: Math.floor(at[1] * (h - keptHeight + 1)),
    keptWidth,
    keptHeight,
    padLeft: Math.floor((side - keptWidth) / 2),
    padTop: Math.floor((side - keptHeight) / 2),
  };
}

/** The middle, rounded to the left and top where it is between two pixels. */
const CENTRE = [0.5 - Number.EPSILON, 0.5 - Number.EPSILON] as const;

/** Which part of a file's picture is kept: a function of the seed, the path and the side of the mirror alone. */
export function cropPosition(
  { crop, seed }: Pick<PictureSettings, "crop" | "seed">,
  path: string,
  mirrored: boolean,
): readonly [number, number] {
  if (crop === "centre") return CENTRE;
  const digest = createHash("sha256")
    .update(`crop ${seed} ${mirrored ? 1 : 0} ${path}`)
    .digest();
  return [digest.readUInt32LE(0) / 2 ** 32, digest.readUInt32LE(4) / 2 ** 32];
}

/** `[keptHeight, keptWidth, 3]` -> `[side, side, 3]`, black around it. */
function lay(pixels: Uint8ClampedArray, place: Placement, side: number): Uint8ClampedArray {
  const { keptWidth, keptHeight, padLeft, padTop } = place;
  if (pixels.length !== keptWidth * keptHeight * 3) {
    throw new Error(`${pixels.length} bytes of pixels instead of ${keptWidth * keptHeight * 3}`);
  }
  if (keptWidth === side && keptHeight === side) return pixels;
  const square = new Uint8ClampedArray(side * side * 3);
  for (let y = 0; y < keptHeight; y++) {
    const row = pixels.subarray(y * keptWidth * 3, (y + 1) * keptWidth * 3);
    square.set(row, ((padTop + y) * side + padLeft) * 3);
  }
  return square;
}

function mirror(pixels: Uint8ClampedArray, side: number): Uint8ClampedArray {
  const mirrored = new Uint8ClampedArray(pixels.length);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const source = (y * side + x) * 3;
      mirrored.set(pixels.subarray(source, source + 3), (y * side + side - 1 - x) * 3);
    }
  }
  return mirrored;
}
