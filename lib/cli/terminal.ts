/** Pictures in a terminal: two pixels per character cell, in as many colours as the terminal has. */

import type { Image } from "../image/image.js";
import { isRich, type OutputStream } from "./context.js";

/** How pixels become characters. */
export type Ink = "truecolor" | "palette" | "ascii";

/** What a stream can show. Anything that is not a terminal gets characters without escapes. */
export function chooseInk(stream: OutputStream, env: NodeJS.ProcessEnv): Ink {
  if (!isRich(stream, env)) return "ascii";
  const bits = stream.getColorDepth?.(env) ?? 1;
  return bits >= 24 ? "truecolor" : bits >= 8 ? "palette" : "ascii";
}

/** Cells that a picture may take, keeping room for a prompt and a progress line. */
export function roomOf(stream: OutputStream, height = 0.8): { columns: number; rows: number } {
  const rows = Math.floor((stream.rows || 40) * height);
  return { columns: Math.max(2, (stream.columns || 80) - 1), rows: Math.max(2, rows) };
}

/**
 * Lines of characters. A cell is two pixels high, so that pixels come out square. Large pictures are averaged down to
 * fit; small ones are repeated up to `minColumns`, so that a preview of 8 x 8 can be seen.
 */
export function renderImage(image: Image, ink: Ink, room: { columns: number; rows: number }, minColumns = 0): string[] {
  const fit = Math.min(room.columns / image.width, (2 * room.rows) / image.height);
  const enlarge = Math.max(1, Math.min(Math.floor(fit), Math.floor(minColumns / image.width)));
  const factor = fit < 1 ? fit : enlarge;
  const width = Math.max(1, Math.floor(image.width * factor));
  const height = Math.max(1, Math.floor(image.height * factor));
  const pixels = resample(image, width, height);
  const lines: string[] = [];
  for (let y = 0; y < height; y += 2) {
    let line = "";
    for (let x = 0; x < width; x++) {
      const top = pixelAt(pixels, width, x, y);
      line += cell(top, y + 1 < height ? pixelAt(pixels, width, x, y + 1) : null, ink);
    }
    lines.push(ink === "ascii" ? line.trimEnd() : `${line}\x1b[0m`);
  }
  return lines;
}

type Colour = readonly [red: number, green: number, blue: number];

function pixelAt(pixels: Float32Array, width: number, x: number, y: number): Colour {
  const at = (y * width + x) * 3;
  return [Math.round(pixels[at]!), Math.round(pixels[at + 1]!), Math.round(pixels[at + 2]!)];
}

/** Means over the source pixels that a target pixel covers; the nearest one when there is less than one. */
function resample(image: Image, width: number, height: number): Float32Array {
  const out = new Float32Array(width * height * 3); // [height, width, 3]
  for (let y = 0; y < height; y++) {
    const [top, bottom] = span(y, height, image.height);
    for (let x = 0; x < width; x++) {
      const [left, right] = span(x, width, image.width);
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let sy = top; sy < bottom; sy++) {
          for (let sx = left; sx < right; sx++) sum += image.data[(sy * image.width + sx) * 3 + c]!;
        }
        out[(y * width + x) * 3 + c] = sum / ((bottom - top) * (right - left));
      }
    }
  }
  return out;
}

function span(index: number, size: number, sourceSize: number): [start: number, end: number] {
  const start = Math.floor((index * sourceSize) / size);
  return [start, Math.max(start + 1, Math.floor(((index + 1) * sourceSize) / size))];
}

const RAMP = " .:-=+*#%@";

/** One character: the upper pixel is its ink, the lower one its paper. */
function cell(top: Colour, bottom: Colour | null, ink: Ink): string {
  if (ink === "ascii") {
    const light = bottom === null ? luma(top) : (luma(top) + luma(bottom)) / 2;
    return RAMP[Math.min(RAMP.length - 1, Math.floor((light / 256) * RAMP.length))]!;
  }
  const code = (colour: Colour) =>
    ink === "truecolor" ? `2;${colour[0]};${colour[1]};${colour[2]}` : `5;${paletteIndex(colour)}`;
  return bottom === null ? `\x1b[0;38;${code(top)}m▀` : `\x1b[38;${code(top)};48;${code(bottom)}m▀`;
}

/** Rec. 601: what a grey picture of it would show. */
function luma([red, green, blue]: Colour): number {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}

/** The nearest entry of xterm's 6 x 6 x 6 cube, or of its grey ramp for greys. */
function paletteIndex([red, green, blue]: Colour): number {
  if (red === green && green === blue) {
    return red < 4 ? 16 : red > 246 ? 231 : 232 + Math.min(23, Math.round((red - 8) / 10));
  }
  const level = (value: number) => (value < 48 ? 0 : value < 115 ? 1 : Math.floor((value - 35) / 40));
  return 16 + 36 * level(red) + 6 * level(green) + level(blue);
}
