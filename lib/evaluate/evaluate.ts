/** What does each depth of a model cost on images that it has not seen? */

import type { TokenSet } from "../data/index.js";
import type { ClassMap } from "../labels/index.js";
import type { Model } from "../model/model.js";
import { fail } from "../options/check.js";
import { type EvaluateSettings, resolveEvaluateSettings } from "../options/evaluate.js";
import { contextOf, type Loss, openTokensFor, Scorer } from "./pass.js";

export interface EvaluateOptions extends EvaluateSettings {
  model: Model;
  /** The set, or its folder. */
  tokens: TokenSet | string | URL;
}

export interface DepthLoss extends Loss {
  /** Blocks after the bridge. */
  depth: number;
  /** Depth of every scale. */
  plan: number[];
  /** Whether the checkpoint was trained for it. */
  trained: boolean;
  /** Nats per token more than at full depth. */
  cost: number;
}

export interface Evaluation {
  /** Folder of the set. */
  tokens: string;
  images: number;
  /** Which of the model's classes those of the set are, and what decided it. */
  classes: ClassMap;
  /** Per image. */
  numTokens: number;
  sides: number[];
  /** Leading scales at full depth. */
  bridge: number;
  /** Full depth first. */
  depths: DepthLoss[];
}

/**
 * Held-out cross entropy, teacher-forced and without guidance, at full depth and at each depth after the bridge.
 *
 * @throws InvalidOptionError, InvalidTokensError (another tokenizer, damaged or unfinished), IoError, AbortError,
 *   DisposedError
 */
export async function evaluateModel(options: EvaluateOptions): Promise<Evaluation> {
  const { model: given, tokens, ...settings } = options ?? {};
  const model = checkModel(given);
  const set = await openTokensFor(model, tokens);
  const context = contextOf(model, set);
  const { depths, bridge, ...scoring } = resolveEvaluateSettings(settings, context);
  const { fullDepth, numScales, trainedDepths } = context;
  const scorer = new Scorer(model, set, scoring, depths.length);
  const losses: DepthLoss[] = [];
  for (const depth of depths) {
    const plan = Array.from({ length: numScales }, (_, scale) => (scale < bridge ? fullDepth : depth));
    const loss = await scorer.score(plan);
    const cost = loss.mean - (losses[0]?.mean ?? loss.mean);
    losses.push({ depth, plan, trained: trainedDepths.includes(depth), cost, ...loss });
  }
  const { folder, numTokens, sides } = set;
  return {
    tokens: folder,
    images: scoring.indices.length,
    classes: scorer.classes,
    numTokens,
    sides: [...sides],
    bridge,
    depths: losses,
  };
}

export function checkModel(value: unknown): Model {
  if (typeof (value as Partial<Model> | null | undefined)?.score !== "function") fail("model", value, "a model");
  return value as Model;
}
