/** How large a picture may be before it is made, not after. */

import { constants } from "node:buffer";
import { InvalidOptionError } from "../errors.js";

export const IMAGE_FORMATS = ["png", "jpeg", "webp"] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** Longest side: of libjpeg (`JPEG_MAX_DIMENSION`), of the 14 bits in WebP's header, of the 31 bits in PNG's. */
const MAX_SIDE: Record<ImageFormat, number> = { png: 2 ** 31 - 1, jpeg: 65_500, webp: 16_383 };

/** Size of a grid; see {@link Image.grid}. */
export interface GridShape {
  columns: number;
  rows: number;
  width: number;
  height: number;
}

/** @param columns at most; fewer when there are fewer images */
export function gridShape(count: number, width: number, height: number, columns: number, gap: number): GridShape {
  const numColumns = Math.min(columns, count);
  const rows = Math.ceil(count / numColumns);
  return {
    columns: numColumns,
    rows,
    width: numColumns * (width + gap) - gap,
    height: rows * (height + gap) - gap,
  };
}

/** Formats that hold a picture of this size. */
export function formatsFor(width: number, height: number): ImageFormat[] {
  if (width * height * 3 > constants.MAX_LENGTH) return [];
  return IMAGE_FORMATS.filter((format) => Math.max(width, height) <= MAX_SIDE[format]);
}

/** @throws InvalidOptionError that says what would hold it */
export function requireEncodable(option: string, format: ImageFormat, width: number, height: number): void {
  const formats = formatsFor(width, height);
  if (formats.includes(format)) return;
  const others = formats.length > 0 ? `${formats.join(" or ")}, or ` : "";
  const expected = `${others}at most ${MAX_SIDE[format]} pixels in width and height, the limit of ${format}`;
  throw new InvalidOptionError(option, `a picture of ${width} x ${height} pixels`, expected);
}
