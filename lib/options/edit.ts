/** Options of model.edit: what it adds to those of model.generate. */

import { Type } from "@sinclair/typebox";
import type { RawPixels } from "../image/image.js";
import { repeated, resolveCondition } from "../labels/index.js";
import { fail } from "./check.js";
import { GENERATE, type GenerateContext, type ResolvedGenerateOptions, resolveGenerateOptions } from "./generate.js";
import { checkedBy, integer, number, oneOf } from "./kinds.js";
import { label } from "./labels.js";
import { type OptionsOf, type Resolved, row, table } from "./table.js";

/** A picture by path, by the bytes of its file, or as pixels. */
export type PictureInput = string | Uint8Array | RawPixels;

const MAX_SIDE = 65_536;

export const RECT = table({
  x: row(integer(0, MAX_SIDE), "pixels from the left edge of the picture", { needed: true }),
  y: row(integer(0, MAX_SIDE), "pixels from its upper edge", { needed: true }),
  width: row(integer(1, MAX_SIDE), "pixels", { needed: true }),
  height: row(integer(1, MAX_SIDE), "pixels", { needed: true }),
});

/** A rectangle in pixels of the picture. */
export interface Rect extends OptionsOf<typeof RECT> {}

export const MARGINS = table({
  left: row(integer(0, MAX_SIDE), "pixels on the left", { default: 0 }),
  top: row(integer(0, MAX_SIDE), "pixels above", { default: 0 }),
  right: row(integer(0, MAX_SIDE), "pixels on the right", { default: 0 }),
  bottom: row(integer(0, MAX_SIDE), "pixels below", { default: 0 }),
});

/** Pixels to add around a picture. */
export interface Margins extends OptionsOf<typeof MARGINS> {}

/** The same, with nothing left open. */
export type AllMargins = Required<Margins>;

function isPicture(value: unknown): value is PictureInput {
  if (typeof value === "string") return value !== "";
  return value instanceof Uint8Array || (typeof value === "object" && value !== null && "data" in value);
}

const picture = (expected: string) =>
  checkedBy<PictureInput>(null, (option, value) => (isPicture(value) ? value : fail(option, value, expected)));

/** `8,16,32,32` */
function fourNumbers(option: string, text: string): number[] {
  const numbers = text.split(",").map((word) => (/^\s*\d+\s*$/.test(word) ? Number(word) : Number.NaN));
  if (numbers.length !== 4 || numbers.some(Number.isNaN)) fail(option, text, "four numbers such as 8,16,32,32");
  return numbers;
}

/** A rectangle as the command line writes it. */
export function rectOf(option: string, text: string): Rect {
  const [x, y, width, height] = fourNumbers(option, text);
  return { x: x!, y: y!, width: width!, height: height! };
}

const mask = checkedBy<PictureInput | Rect>(
  null,
  (option, value) => {
    if (isPicture(value)) return value;
    if (typeof value !== "object" || value === null) fail(option, value, "a picture, or { x, y, width, height }");
    return RECT.read(value, option);
  },
  (_, path) => path,
);

const expand = checkedBy<number | Margins, AllMargins>(
  Type.Union([Type.Integer({ minimum: 0, maximum: MAX_SIDE }), MARGINS.schema]),
  (option, value) => {
    const all = (pixels: number) => ({ left: pixels, top: pixels, right: pixels, bottom: pixels });
    const margins = typeof value === "number" ? MARGINS.read(all(value), option) : MARGINS.read(value, option);
    const { left, top, right, bottom } = margins;
    if (left + top + right + bottom === 0) fail(option, value, "pixels to add on at least one side");
    return margins;
  },
  (option, text) => {
    if (/^\d+$/.test(text)) return Number(text);
    const [left, top, right, bottom] = fourNumbers(option, text);
    return { left, top, right, bottom };
  },
);

const { labels: _, ...DRAWN } = GENERATE.rows;

export const EDIT = table({
  image: row(picture("a path, the bytes of an image file, or { width, height, data }"), "the picture to edit", {
    needed: true,
  }),
  mask: row(
    mask,
    "where to draw: a picture of the same size (or of the last scale's tokens) that is transparent there, or black if nothing in it is transparent; or { x, y, width, height }",
    { otherwise: "everywhere, as far as strength and expand allow", flag: "--mask <file>" },
  ),
  label: row(label(), "the class that is drawn", { otherwise: "unconditional: what fits the rest of the picture" }),
  variants: row(integer(1, 1024), "pictures to draw; the one whose seam surprises the model least comes first", {
    default: 1,
    flag: "-n, --variants <n>",
  }),
  strength: row(
    number(0, 1),
    "0 keeps everything (the tokenizer's reconstruction), 1 keeps only what the mask keeps; between, the small scales stay, and with them the composition",
    { default: 1, flag: "--strength <s>" },
  ),
  expand: row(
    expand,
    "pixels to draw around the picture, on all sides or as { left, top, right, bottom }; the result has the model's side",
    { flag: "--expand <pixels>" },
  ),
  fit: row(oneOf("cover", "fill"), "a picture of another aspect is cropped, or squeezed", {
    otherwise: "it is refused",
    flag: "--fit <fit>",
  }),
  preserve: row(
    oneOf("pixels", "tokens"),
    "lay the kept pixels over the result, with a soft edge, or leave them as the decoder draws them",
    { default: "pixels", flag: "--preserve <what>" },
  ),
  feather: row(integer(0, 256), "width of that edge in pixels, on the kept side", {
    otherwise: "half of what one token of the last scale stands for",
    flag: "--feather <pixels>",
  }),
  ...DRAWN,
});

/** Options of {@link Model.edit}. */
export interface EditOptions extends OptionsOf<typeof EDIT> {}

type Edited = Resolved<typeof EDIT>;

export interface ResolvedEditOptions
  extends Pick<Edited, "image" | "mask" | "variants" | "strength" | "expand" | "fit" | "preserve"> {
  feather: number;
  /** `conditions`: one for each variant. */
  drawing: ResolvedGenerateOptions;
}

/** @param latent pixels that one token of the last scale stands for @throws InvalidOptionError */
export function resolveEditOptions(raw: unknown, context: GenerateContext, latent: number): ResolvedEditOptions {
  const { image, mask, label: name, variants, strength, expand, fit, preserve, feather, ...rest } = EDIT.read(raw);
  if (expand !== undefined && fit !== undefined) fail("fit", fit, "no fit beside expand, which lays the picture out");
  if (strength === 0 && (mask !== undefined || expand !== undefined)) {
    fail("strength", strength, "more than 0 beside a mask or expand: 0 draws nothing");
  }
  const condition = resolveCondition("label", name ?? "unconditional", context);
  return {
    image,
    mask,
    variants,
    strength,
    expand,
    fit,
    preserve,
    feather: feather ?? Math.floor(latent / 2),
    drawing: { ...resolveGenerateOptions(rest, context), conditions: repeated(condition, variants) },
  };
}
