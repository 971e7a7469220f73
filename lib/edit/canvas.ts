/** The picture to edit and its mask, as a model sees them: squares of its own side. */

import { InvalidOptionError, IoError } from "../errors.js";
import { Image, loadSharp } from "../image/image.js";
import type { AllMargins, PictureInput, Rect } from "../options/edit.js";
import type { KeepMask } from "./mask.js";

/** How the canvas is laid out. */
export interface Layout {
  /** Of the model's images, in pixels. */
  side: number;
  /** Of the last scale, in tokens. */
  gridSide: number;
  /** Undefined: a picture of another aspect is refused. */
  fit: "cover" | "fill" | undefined;
  expand: AllMargins | undefined;
}

/** What the model is given. */
export interface Canvas {
  /** `[side, side, 3]`. */
  pixels: Uint8ClampedArray;
  /** Of the picture's pixels: `side * side`. */
  pixelMask: KeepMask;
  /** What the tokens are chosen by: the pixels' mask, or the one that was given on the grid of the last scale. */
  tokenMask: KeepMask;
}

/** One number per pixel: 1 = draw here. */
interface Plane {
  width: number;
  height: number;
  data: Uint8Array;
}

const THRESHOLD = 128;

/**
 * Reads picture and mask and lays them out.
 *
 * @param mask a picture of the same size or of the last scale's grid (drawn where it is transparent, or black where
 *   nothing in it is transparent), a rectangle to draw, or nothing
 * @throws InvalidOptionError for what does not fit together, IoError for what cannot be read
 */
export async function layOut(
  picture: PictureInput,
  mask: PictureInput | Rect | undefined,
  layout: Layout,
): Promise<Canvas> {
  const image = await readPicture(picture);
  const drawn = mask === undefined ? empty(image) : await readDrawn(mask, image, layout.gridSide);
  if (layout.expand !== undefined) return expand(image, drawn, layout, layout.expand);
  const { side, fit } = layout;
  if (image.width !== image.height && fit === undefined) {
    throw new InvalidOptionError(
      "image",
      `${image.width} x ${image.height} pixels`,
      'a square picture, or fit "cover" (crop) or "fill" (squeeze)',
    );
  }
  const onGrid = drawn.width === layout.gridSide && image.width !== layout.gridSide;
  const frame = onGrid ? square(drawn.width) : frameOf(image, fit ?? "cover");
  const pixelMask = sample(drawn, frame, side);
  return {
    pixels: await scale(image, side, fit ?? "cover"),
    pixelMask,
    tokenMask: onGrid ? sample(drawn, frame, layout.gridSide) : pixelMask,
  };
}

/** Nothing that would lose something on the way: `Image.from` converts it where that is wanted. */
async function readPicture(input: PictureInput): Promise<Image> {
  if (input instanceof Image) return input;
  if (typeof input === "string" || input instanceof Uint8Array) await refuseUnusual(input);
  return Image.from(input);
}

async function refuseUnusual(input: string | Uint8Array): Promise<void> {
  const sharp = await loadSharp();
  let found: { pages?: number; space?: string; depth?: string };
  try {
    found = await sharp(input, { pages: -1 }).metadata();
  } catch {
    return; // Image.from says what is wrong with it
  }
  const expected = "one frame of 8-bit grey or RGB (Image.from converts a picture)";
  if ((found.pages ?? 1) > 1) throw new InvalidOptionError("image", `${found.pages} frames`, expected);
  if (found.space === "cmyk") throw new InvalidOptionError("image", "a CMYK picture", expected);
  if (found.depth !== undefined && found.depth !== "uchar") {
    throw new InvalidOptionError("image", `a picture of ${found.depth} samples`, expected);
  }
}

function empty({ width, height }: Image): Plane {
  return { width, height, data: new Uint8Array(width * height) };
}

async function readDrawn(mask: PictureInput | Rect, image: Image, gridSide: number): Promise<Plane> {
  const plane = isRect(mask) ? fillRect(mask, image) : await readMask(mask);
  const { width, height } = plane;
  const onGrid = width === gridSide && height === gridSide;
  if (!onGrid && (width !== image.width || height !== image.height)) {
    const expected = `${image.width} x ${image.height}, the size of the image, or the last scale's ${gridSide} x ${gridSide}`;
    throw new InvalidOptionError("mask", `${width} x ${height} pixels`, expected);
  }
  if (!plane.data.includes(1)) {
    throw new InvalidOptionError(
      "mask",
      "nothing to draw",
      "a mask that is transparent (or black, without transparency) where the picture is to change",
    );
  }
  return plane;
}

export function isRect(mask: unknown): mask is Rect {
  return typeof mask === "object" && mask !== null && !("data" in mask) && !(mask instanceof Uint8Array);
}

function fillRect({ x, y, width, height }: Rect, image: Image): Plane {
  if (x + width > image.width || y + height > image.height) {
    const found = `${width} x ${height} at ${x},${y}`;
    throw new InvalidOptionError(
      "mask",
      found,
      `a rectangle within the image's ${image.width} x ${image.height} pixels`,
    );
  }
  const plane = empty(image);
  for (let row = y; row < y + height; row++) plane.data.fill(1, row * plane.width + x, row * plane.width + x + width);
  return plane;
}

async function readMask(input: PictureInput): Promise<Plane> {
  const { width, height, channels, data } = await rawPixels(input);
  const area = width * height;
  const alpha = channels === 4 || channels === 2 ? channels - 1 : undefined;
  const channel = (pixel: number, index: number) => data[pixel * channels + index]!;
  const drawn = new Uint8Array(area);
  let transparent = false;
  for (let pixel = 0; alpha !== undefined && pixel < area; pixel++) {
    if (channel(pixel, alpha) >= THRESHOLD) continue;
    drawn[pixel] = 1;
    transparent = true;
  }
  if (transparent) return { width, height, data: drawn };
  const colours = Math.min(channels, channels >= 3 ? 3 : 1);
  for (let pixel = 0; pixel < area; pixel++) {
    let light = 0;
    for (let index = 0; index < colours; index++) light = Math.max(light, channel(pixel, index));
    drawn[pixel] = light < THRESHOLD ? 1 : 0;
  }
  return { width, height, data: drawn };
}

async function rawPixels(input: PictureInput) {
  if (typeof input !== "string" && !(input instanceof Uint8Array)) {
    const { width, height, data } = input;
    return { width, height, data, channels: data.length / (width * height) };
  }
  const sharp = await loadSharp();
  try {
    const { data, info } = await sharp(input)
      .autoOrient()
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, channels: info.channels, data };
  } catch (cause) {
    const name = typeof input === "string" ? input : "the mask";
    throw new IoError(`cannot read ${name}: ${(cause as Error).message}`, { cause });
  }
}

/** The part of a plane that becomes the square, in its pixels. */
interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

function square(side: number): Frame {
  return { left: 0, top: 0, width: side, height: side };
}

function frameOf({ width, height }: Image, fit: "cover" | "fill"): Frame {
  if (fit === "fill") return { left: 0, top: 0, width, height };
  const side = Math.min(width, height);
  return { left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2), width: side, height: side };
}

async function scale(image: Image, side: number, fit: "cover" | "fill"): Promise<Uint8ClampedArray> {
  if (image.width === side && image.height === side) return image.data;
  return (await Image.from(image, { side, fit })).data;
}

/** The mask of a square of `side` pixels: each takes the nearest number of the frame. */
function sample(plane: Plane, frame: Frame, side: number): KeepMask {
  const at = (index: number, from: number, length: number) => from + Math.floor(((index + 0.5) * length) / side);
  const keep = new Uint8Array(side * side);
  for (let y = 0; y < side; y++) {
    const row = at(y, frame.top, frame.height) * plane.width;
    for (let x = 0; x < side; x++) keep[y * side + x] = 1 - plane.data[row + at(x, frame.left, frame.width)]!;
  }
  return { width: side, height: side, keep };
}

/**
 * The picture on a larger canvas: scaled so that canvas and model have the same side, and laid on whole latents. What
 * is added is drawn; for the encoder it is the picture's own edge, drawn out.
 */
async function expand(image: Image, drawn: Plane, { side, gridSide }: Layout, margins: AllMargins): Promise<Canvas> {
  const width = image.width + margins.left + margins.right;
  const height = image.height + margins.top + margins.bottom;
  if (width !== height) {
    throw new InvalidOptionError(
      "expand",
      `a canvas of ${width} x ${height} pixels`,
      `a square one, because the model draws squares: ${Math.abs(width - height)} more pixels ${width > height ? "above or below" : "left or right"}`,
    );
  }
  const latent = side / gridSide;
  const onLatents = (pixels: number) => latent * Math.round((pixels * gridSide) / width);
  const [left, top] = [onLatents(margins.left), onLatents(margins.top)];
  const [right, bottom] = [onLatents(margins.left + image.width), onLatents(margins.top + image.height)];
  if (right <= left || bottom <= top) {
    const found = `a picture of ${image.width} x ${image.height} in ${width} x ${height}`;
    throw new InvalidOptionError("expand", found, "so much of the picture that a latent of it is left");
  }
  const sharp = await loadSharp();
  const raw = { width: image.width, height: image.height, channels: 3 } as const;
  const pixels = await sharp(image.data, { raw })
    .resize(right - left, bottom - top, { fit: "fill" })
    .extend({ left, top, right: side - right, bottom: side - bottom, extendWith: "copy" })
    .raw()
    .toBuffer();
  const pixelMask: KeepMask = { width: side, height: side, keep: new Uint8Array(side * side) };
  for (let y = top; y < bottom; y++) {
    const row = Math.floor(((y - top + 0.5) * drawn.height) / (bottom - top)) * drawn.width;
    for (let x = left; x < right; x++) {
      const column = Math.floor(((x - left + 0.5) * drawn.width) / (right - left));
      pixelMask.keep[y * side + x] = 1 - drawn.data[row + column]!;
    }
  }
  return { pixels: Uint8ClampedArray.from(pixels), pixelMask, tokenMask: pixelMask };
}
