/**
 * Teacher-forced cross entropy: the core computes the losses of given tokens; here they are put in order and averaged.
 */

import type { CallSite } from "../errors.js";
import { type Conditions, partOf } from "../labels/index.js";
import type { NativeModel, NativeRequest } from "../native/contract.js";
import type { DepthPlan } from "../options/depth.js";
import type { Architecture } from "../values/architecture.js";
import type { Lifecycle } from "./lifecycle.js";
import type { GenerationLog, Requested } from "./observer.js";
import { readToEnd } from "./read-to-end.js";

/** Teacher-forced cross entropy in nats. */
export interface Score {
  /** Per token: `[images, numTokens]`. */
  perToken: Float32Array;
  /** Mean over the tokens of each scale and all images. */
  perScale: number[];
  /** Mean over all tokens of each image. */
  perImage: number[];
  /** Mean over everything. */
  mean: number;
}

/** What a model hands to a score. */
export interface ScoreParts {
  native: Pick<NativeModel, "generate">;
  lifecycle: Lifecycle;
  architecture: Pick<Architecture, "numTokens" | "numScales" | "sides">;
  /** One for each image. */
  conditions: Conditions;
  /** `[images, numTokens]`. */
  tokens: Int32Array;
  plan: DepthPlan;
  /** Images of one run. */
  batch: number;
  signal: AbortSignal | undefined;
  callSite: CallSite;
  log(requested: Requested): GenerationLog;
}

/** More images in one run make it no faster, only its buffers larger. */
const MAX_IMAGES = 64;

/** Images per run: half of what the pool holds, so that other generations find room beside it. */
export function imagesPerRun(imagesAtOnce: number): number {
  return Math.max(1, Math.min(MAX_IMAGES, Math.floor(imagesAtOnce / 2)));
}

/** Scores all images, run by run. @throws AbortError, DisposedError, PoolExhaustedError */
export async function scoreTokens(parts: ScoreParts): Promise<Score> {
  const { architecture, conditions, tokens, batch } = parts;
  const { count } = conditions;
  const perToken = new Float32Array(tokens.length);
  for (let first = 0; first < count; first += batch) {
    await scoreRun(parts, first, Math.min(count, first + batch), perToken);
  }
  return summarise(architecture, perToken, count);
}

/** The losses of the images `[first, end)`, put in their places in `perToken`. */
async function scoreRun(parts: ScoreParts, first: number, end: number, perToken: Float32Array): Promise<void> {
  const { native, lifecycle, architecture, plan, signal, callSite } = parts;
  const { numTokens, numScales } = architecture;
  const conditions = partOf(parts.conditions, first, end);
  const { numMixed, labels, weights } = conditions;
  const request: NativeRequest = {
    numMixed,
    labels,
    weights,
    seed: 0n, // nothing is drawn
    firstImage: 0,
    guidance: new Float32Array(numScales),
    topK: 0,
    topP: 0,
    depths: plan.depths,
    deadlineMs: 0,
    deadlineDepths: new Int32Array(0),
    keepDroppedCache: true, // as in the training of a supernet
    wait: true,
    preview: "none",
    givenTokens: parts.tokens.slice(first * numTokens, end * numTokens),
    losses: true,
    capture: false,
  };
  const run = { native, lifecycle, signal, callSite, log: parts.log({ conditions, seed: 0, plan }) };
  let offset = 0;
  await readToEnd(run, request, ({ side, losses }) => {
    const area = side * side;
    for (let image = first; image < end; image++) {
      const found = losses!.subarray((image - first) * area, (image - first + 1) * area); // [end - first, area]
      perToken.set(found, image * numTokens + offset);
    }
    offset += area;
  });
}

function summarise(
  { numTokens, sides }: Pick<Architecture, "numTokens" | "sides">,
  perToken: Float32Array,
  count: number,
): Score {
  const perImage = Array.from({ length: count }, (_, i) => mean(perToken.subarray(i * numTokens, (i + 1) * numTokens)));
  let offset = 0;
  const perScale = sides.map((side) => {
    const start = offset;
    offset += side * side;
    const parts = perImage.map((_, i) => mean(perToken.subarray(i * numTokens + start, i * numTokens + offset)));
    return mean(parts);
  });
  return { perToken, perScale, perImage, mean: mean(perImage) };
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index]!;
  return sum / values.length;
}
