/** Pixels, and their way from and to files. */

import { createRequire } from "node:module";
import { extname } from "node:path";
import { types } from "node:util";
import { isBytes } from "../base/kinds.js";
import { InvalidOptionError, IoError } from "../errors.js";
import { writeAtomically } from "../files/atomic-file.js";
import { systemFailure } from "../files/failure.js";
import { checkInteger, checkObject, checkOneOf, checkPath, fail, isUrl } from "../options/check.js";
import { gridShape, IMAGE_FORMATS, type ImageFormat, requireEncodable } from "./limits.js";

export { IMAGE_FORMATS, type ImageFormat };

/** How pixels become a file. */
export interface EncodeOptions {
  /** 1..100, of jpeg and webp. Default 92. */
  quality?: number;
}

/** How an image of any size becomes one of a model's size. */
export interface FromOptions {
  /** Width and height of the result, 1..16384. Default: as it is. */
  side?: number;
  /** Crop around the centre (default), or squeeze. */
  fit?: "cover" | "fill";
}

/** Pixels in rows with 1 (grey), 3 (RGB) or 4 (RGBA) channels. */
export interface RawPixels {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
  /** Default: from the length of `data`. */
  channels?: number;
}

const EXTENSIONS: Record<string, ImageFormat> = { ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp" };

/** The format that a file's ending names, or null. */
export function formatOf(path: string): ImageFormat | null {
  return EXTENSIONS[extname(path).toLowerCase()] ?? null;
}

/** An RGB picture: `data` is `[height, width, 3]`, 0..255. */
export class Image {
  readonly channels = 3;

  constructor(
    readonly width: number,
    readonly height: number,
    readonly data: Uint8ClampedArray,
  ) {
    if (data.length !== width * height * 3) {
      const expected = `${width * height * 3} for ${width} x ${height} RGB`;
      throw new InvalidOptionError("data", `${data.length} bytes`, expected);
    }
  }

  /**
   * Reads a picture for {@link Model.encode}: an image file by path or by content (anything that sharp reads, turned
   * upright by its EXIF tag), or raw pixels. Transparency is laid on black. Throws an IoError for what cannot be read.
   */
  static async from(source: string | URL | Uint8Array | RawPixels, options?: FromOptions): Promise<Image> {
    const { side, fit } = checkFromOptions(options);
    const input = typeof source === "string" || isUrl(source) ? checkPath("input", source) : source;
    const raw = isRaw(input) ? checkRaw(input) : null;
    if (raw !== null && raw.channels === 3 && (side === undefined || (raw.width === side && raw.height === side))) {
      return new Image(raw.width, raw.height, Uint8ClampedArray.from(raw.data));
    }
    const sharp = await loadSharp();
    try {
      const { data: pixels, ...size } = raw ?? { data: input as string | Uint8Array };
      let pipeline = raw === null ? sharp(pixels).autoOrient() : sharp(bytesOf(raw.data), { raw: size as typeof raw });
      if (side !== undefined) pipeline = pipeline.resize(side, side, { fit, position: "centre" });
      pipeline = pipeline.toColourspace("srgb").flatten({ background: "#000" });
      const { data, info } = await pipeline.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
      return new Image(info.width, info.height, toRgb(data, info.channels));
    } catch (cause) {
      const name = typeof input === "string" ? input : "the image";
      const doing = `cannot read ${name}`;
      throw systemFailure(cause, doing) ?? new IoError(`${doing}: ${(cause as Error).message}`, { cause });
    }
  }

  /**
   * Images of one size side by side, row by row, on black.
   *
   * @param columns default: as square as it gets
   * @param gap pixels between images, default 0
   */
  static grid(images: readonly Image[], columns = Math.ceil(Math.sqrt(images.length)), gap = 0): Image {
    if (images.length === 0) fail("images", images, "at least one image");
    checkInteger("columns", columns, 1, Number.MAX_SAFE_INTEGER);
    checkInteger("gap", gap, 0, 4096);
    const { width, height } = images[0]!;
    const shape = gridShape(images.length, width, height, columns, gap);
    const { columns: numColumns, width: gridWidth, height: gridHeight } = shape;
    requireEncodable("images", "png", gridWidth, gridHeight); // larger than any array could be
    const data = new Uint8ClampedArray(gridWidth * gridHeight * 3);
    images.forEach((image, index) => {
      if (image.width !== width || image.height !== height) {
        const found = `${image.width} x ${image.height}`;
        throw new InvalidOptionError(`images[${index}]`, found, `${width} x ${height}, as the first one`);
      }
      const left = (index % numColumns) * (width + gap);
      const top = Math.floor(index / numColumns) * (height + gap);
      for (let y = 0; y < height; y++) {
        data.set(image.data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * gridWidth + left) * 3);
      }
    });
    return new Image(gridWidth, gridHeight, data);
  }

  /**
   * Encoded bytes.
   *
   * @throws InvalidOptionError for more pixels than the format holds (jpeg 65500, webp 16383 a side), IoError,
   *   OutOfMemoryError
   */
  async toBuffer(format: ImageFormat = "png", options?: EncodeOptions): Promise<Buffer> {
    checkOneOf("format", format, IMAGE_FORMATS);
    const { quality: raw = 92 } = checkObject("options", options, ["quality"]);
    const quality = checkInteger("quality", raw, 1, 100);
    const { width, height, channels } = this;
    requireEncodable("format", format, width, height);
    if (this.data.length !== width * height * channels) {
      throw new InvalidOptionError(
        "data",
        `${this.data.length} bytes`,
        "the pixels of the picture (were they transferred?)",
      );
    }
    const sharp = await loadSharp();
    try {
      // The limit of sharp is one against foreign files; these pixels are in memory already.
      const pipeline = sharp(bytesOf(this.data), { raw: { width, height, channels }, limitInputPixels: false });
      // Small pictures show what 4:2:0 does to colours.
      if (format === "jpeg") return await pipeline.jpeg({ quality, chromaSubsampling: "4:4:4" }).toBuffer();
      if (format === "webp") return await pipeline.webp({ quality }).toBuffer();
      return await pipeline.png().toBuffer();
    } catch (cause) {
      const doing = `cannot encode ${width} x ${height} pixels as ${format}`;
      throw systemFailure(cause, doing) ?? new IoError(`${doing}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Writes or replaces a file, completely or not at all; its ending (.png, .jpg, .jpeg, .webp) names the format. */
  async toFile(file: string | URL, options?: EncodeOptions): Promise<void> {
    const path = checkPath("path", file);
    const format = formatOf(path);
    if (format === null) fail("path", path, "a name that ends in .png, .jpg, .jpeg or .webp");
    await writeAtomically(path, await this.toBuffer(format, options));
  }
}

// Not a dynamic import: hosts that run CommonJS in a context of their own (jest) forbid those.
const requireFrom = createRequire(import.meta.url);

/** The same memory as a Buffer: sharp knows no typed arrays of other realms. */
function bytesOf({ buffer, byteOffset, byteLength }: Uint8Array | Uint8ClampedArray): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}

/** sharp costs a native library: it is loaded by those who encode or decode, at their first call. */
export async function loadSharp() {
  try {
    return requireFrom("sharp") as typeof import("sharp")["default"];
  } catch (cause) {
    const reason = (cause as Error).message.split("\n", 1)[0];
    throw new IoError(`image files need the package "sharp", which cannot be loaded (npm install sharp): ${reason}`, {
      cause,
    });
  }
}

function checkFromOptions(raw: unknown): { side: number | undefined; fit: "cover" | "fill" } {
  const { side, fit = "cover" } = checkObject("options", raw, ["side", "fit"]);
  return {
    side: side === undefined ? undefined : checkInteger("side", side, 1, 16_384),
    fit: checkOneOf("fit", fit, ["cover", "fill"]),
  };
}

function isRaw(input: unknown): input is RawPixels {
  if (typeof input === "string" || types.isUint8Array(input)) return false;
  if (typeof input === "object" && input !== null && "data" in input) return true;
  fail("input", input, "a path, the bytes of an image file, or { width, height, data }");
}

/** The same pixels with their number of channels, checked against the length. */
function checkRaw({ width, height, data, channels }: RawPixels) {
  checkInteger("input.width", width, 1, 65_536);
  checkInteger("input.height", height, 1, 65_536);
  if (!isBytes(data)) {
    fail("input.data", data, "a Uint8Array or Uint8ClampedArray of pixels");
  }
  const found = data.length / (width * height);
  if ((found !== 1 && found !== 3 && found !== 4) || (channels ?? found) !== found) {
    const expected = `${width} x ${height} pixels with ${channels ?? "1, 3 or 4"} channels`;
    throw new InvalidOptionError("input.data", `${data.length} bytes`, expected);
  }
  return { width, height, data, channels: found as 1 | 3 | 4 };
}

/** sharp gives grey pictures back with one channel, whatever it was asked for. */
export function toRgb(data: Uint8Array, channels: number): Uint8ClampedArray {
  if (channels === 3) return Uint8ClampedArray.from(data);
  return Uint8ClampedArray.from(
    { length: (data.length / channels) * 3 },
    (_, i) => data[Math.floor(i / 3) * channels]!,
  );
}
