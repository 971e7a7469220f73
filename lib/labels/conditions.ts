/** What images shall show: a class each, or mixes of classes with weights. */

import { InvalidOptionError } from "../errors.js";
import { checkNumber, describe, fail } from "../options/check.js";
import { type Label, type LabelContext, resolveLabel } from "./resolve.js";

/**
 * Classes with weights that sum to 1, by number or by name: `{ 3: 0.5, 8: 0.5 }`, `{ cat: 0.7, dog: 0.3 }`. Their
 * embeddings are mixed: what comes out lies between the classes as far as the model knows anything there.
 */
export type LabelMix = Record<string, number>;

/** As the core takes it. */
export interface Conditions {
  /** Images. */
  count: number;
  /** Classes of each, with weight 0 where there are fewer. */
  numMixed: number;
  /** `[count, numMixed]`. */
  labels: Int32Array;
  /** `[count, numMixed]`; null where every image is of one class. */
  weights: Float32Array | null;
}

const MAX_IMAGES = 65_536;
const MAX_MIXED = 8;

/** How far the sum of weights may be from 1, so that three thirds written with four digits pass. */
const SLACK = 1e-3;

type Share = readonly [label: number, weight: number];

/** One label, one mix, or a list of either. @throws InvalidOptionError */
export function resolveConditions(value: unknown, context: LabelContext): Conditions {
  if (!Array.isArray(value)) return resolveCondition("labels", value, context);
  if (value.length === 0 || value.length > MAX_IMAGES) fail("labels", value, `1..${MAX_IMAGES} labels`);
  const known = new Map<unknown, Share[]>(); // a thousand images of one class look it up once
  const shares = value.map((label, index) => {
    const found = known.get(label) ?? sharesOf(`labels[${index}]`, label, context);
    known.set(label, found);
    return found;
  });
  return pack(shares);
}

/** One label or one mix. @throws InvalidOptionError that names `option` */
export function resolveCondition(option: string, value: unknown, context: LabelContext): Conditions {
  return pack([sharesOf(option, value, context)]);
}

/** The images `[first, end)`. */
export function partOf({ numMixed, labels, weights }: Conditions, first: number, end: number): Conditions {
  const cut = [first * numMixed, end * numMixed] as const;
  return { count: end - first, numMixed, labels: labels.slice(...cut), weights: weights?.slice(...cut) ?? null };
}

/** The one image's condition for `count` images. */
export function repeated({ numMixed, labels, weights }: Conditions, count: number): Conditions {
  const at = (index: number) => index % numMixed;
  const length = count * numMixed;
  return {
    count,
    numMixed,
    labels: Int32Array.from({ length }, (_, index) => labels[at(index)]!),
    weights: weights && Float32Array.from({ length }, (_, index) => weights[at(index)]!),
  };
}

function sharesOf(option: string, value: unknown, context: LabelContext): Share[] {
  if (typeof value !== "object" || value === null) return [[resolveLabel(option, value, context), 1]];
  const entries = Array.isArray(value) ? [] : Object.entries(value);
  if (entries.length === 0 || entries.length > MAX_MIXED) {
    fail(option, value, `a label, or 1..${MAX_MIXED} of them with weights, such as { 3: 0.5, 8: 0.5 }`);
  }
  const shares = entries.map(([key, weight]): Share => {
    const place = `${option}[${JSON.stringify(key)}]`;
    return [resolveLabel(option, labelOf(key), context), checkNumber(place, weight, 0, 1)];
  });
  const doubled = shares.find(([label], index) => shares.some((other, before) => before < index && other[0] === label));
  if (doubled !== undefined) {
    throw new InvalidOptionError(option, `class ${doubled[0]} twice`, "each class of a mix once");
  }
  const sum = shares.reduce((total, [, weight]) => total + weight, 0);
  if (Math.abs(sum - 1) > SLACK) {
    throw new InvalidOptionError(
      option,
      `weights that sum to ${describe(Number(sum.toPrecision(6)))}`,
      "weights that sum to 1",
    );
  }
  return shares.map(([label, weight]) => [label, weight / sum]);
}

/** Keys of an object are texts: one of digits is a number, as it was written. */
function labelOf(key: string): Label {
  return /^\d+$/.test(key) ? Number(key) : key;
}

function pack(images: readonly Share[][]): Conditions {
  const numMixed = Math.max(...new Set(images.map((shares) => shares.length)));
  const length = images.length * numMixed;
  const share = (index: number): Share => images[Math.floor(index / numMixed)]![index % numMixed] ?? [0, 0];
  return {
    count: images.length,
    numMixed,
    labels: Int32Array.from({ length }, (_, index) => share(index)[0]),
    weights: numMixed === 1 ? null : Float32Array.from({ length }, (_, index) => share(index)[1]),
  };
}
