/** An edit: some tokens of a generation are given, the rest is drawn; then the kept pixels go back. */

import type { Image } from "../image/image.js";
import type { PictureInput, Rect } from "../options/edit.js";
import { type Canvas, type Layout, layOut } from "./canvas.js";
import { givenTokens, keptByStrength, seamTokens } from "./given.js";
import { keepMaps } from "./mask.js";
import { pasteKept } from "./paste.js";

/** What an edit asks for, checked. */
export interface EditPlan {
  image: PictureInput;
  /** Undefined: nothing but what `expand` adds, or, without it, everything. */
  mask: PictureInput | Rect | undefined;
  strength: number;
  layout: Layout;
  preserve: "pixels" | "tokens";
  /** Pixels. */
  feather: number;
  seed: number | bigint;
  sides: readonly number[];
}

/** A picture that is laid out and encoded. */
export interface PreparedEdit {
  canvas: Canvas;
  /** Whether a mask, or a larger canvas, says which pixels stay. */
  masked: boolean;
  /** `[numTokens]`: the source's tokens, -1 where one is drawn. */
  given: Int32Array;
  /** What a person may not have meant. */
  notes: string[];
}

/**
 * @param encode pixels `[side, side, 3]` -> `[numTokens]`
 * @throws InvalidOptionError, IoError
 */
export async function prepareEdit(
  plan: EditPlan,
  encode: (pixels: Uint8ClampedArray) => Promise<Int32Array>,
): Promise<PreparedEdit> {
  const { sides, strength, layout } = plan;
  const canvas = await layOut(plan.image, plan.mask, layout);
  const masked = plan.mask !== undefined || layout.expand !== undefined;
  const source = await encode(canvas.pixels);
  const kept = strength < 1 ? [keptByStrength(strength, sides, plan.seed)] : [];
  if (masked) kept.push(keepMaps(canvas.tokenMask, sides));
  return { canvas, masked, given: givenTokens(source, kept), notes: notesOn(canvas, masked, strength) };
}

function notesOn({ pixelMask }: Canvas, masked: boolean, strength: number): string[] {
  if (strength < 1) return [];
  if (!masked) return ["nothing of the picture is kept: this is what generate draws"];
  if (pixelMask.keep.includes(1)) return [];
  return [
    "the mask draws everything: but for the first token, which stands for the whole, this is what generate draws",
  ];
}

/** Lays the kept pixels over decoded images, in place, where the plan preserves pixels. */
export function restorePixels({ canvas, masked }: PreparedEdit, plan: EditPlan, images: readonly Image[]): void {
  if (!masked || plan.preserve === "tokens") return;
  for (const image of images) pasteKept(image.data, canvas.pixels, canvas.pixelMask, plan.feather);
}

/**
 * How surprised the model is along the seam: mean of the losses (nats) of the drawn tokens beside given ones, per
 * image.
 *
 * @param losses `[images, numTokens]`
 */
export function seamLosses({ given }: PreparedEdit, losses: Float32Array, sides: readonly number[]): number[] {
  const seam = seamTokens(given, sides);
  const count = losses.length / given.length;
  return Array.from({ length: count }, (_, image) => {
    const sum = seam.reduce((total, token) => total + losses[image * given.length + token]!, 0);
    return seam.length === 0 ? 0 : sum / seam.length;
  });
}
