/** Teacher-forced passes over images of a token set: one depth per scale in, means over all images out. */

import { requireTokens, TokenSet } from "../data/index.js";
import { type ClassMap, mapClasses } from "../labels/index.js";
import type { Model } from "../model/model.js";
import { checkTokensOption, type EvaluateContext, type ResolvedScoring } from "../options/evaluate.js";

/** Cross entropy in nats. */
export interface Loss {
  /** Mean over all tokens. */
  mean: number;
  /** Mean over the tokens of each scale. */
  perScale: number[];
  /** Standard error of the mean, from the spread over images; 0 for one image. */
  standardError: number;
}

/**
 * The set behind the option `tokens`, known to fit the model. @throws InvalidTokensError, IoError, InvalidOptionError
 */
export async function openTokensFor(model: Model, tokens: unknown): Promise<TokenSet> {
  const checked = checkTokensOption(tokens);
  const set = typeof checked === "string" ? await TokenSet.open(checked) : (checked as TokenSet);
  requireTokens(set.folder, set, model, "the model");
  return set;
}

export function contextOf({ architecture, bridge, depths }: Model, { length }: TokenSet): EvaluateContext {
  const { depth: fullDepth, numScales } = architecture;
  return { fullDepth, numScales, bridge, trainedDepths: depths, length };
}

/** Scores the same images again and again, at one plan after the other. */
export class Scorer {
  /** Which of the model's classes those of the set are. */
  readonly classes: ClassMap;
  #done = 0;

  /**
   * @param passes how many times {@link score} will be called, for the progress
   * @throws InvalidTokensError when the classes of the set are not the model's
   */
  constructor(
    readonly model: Model,
    readonly set: TokenSet,
    readonly scoring: ResolvedScoring,
    readonly passes: number,
  ) {
    const { architecture, classNames } = model;
    this.classes = mapClasses(set, { numClasses: architecture.numClasses, classNames }, scoring.classesBy);
  }

  /** @param plan depth of every scale */
  async score(plan: number[]): Promise<Loss> {
    const { model, set, scoring } = this;
    const { indices, batch, signal } = scoring;
    const perImage: number[] = [];
    const sums = plan.map(() => 0);
    for (let first = 0; first < indices.length; first += batch) {
      const part = indices.subarray(first, first + batch);
      const { tokens, labels } = await set.read(part);
      const classes = Array.from(labels, (label) => this.classes.classes[label]!);
      const score = await model.score({ tokens, labels: classes, depth: plan, ...(signal && { signal }) });
      perImage.push(...score.perImage);
      score.perScale.forEach((loss, scale) => {
        sums[scale] = sums[scale]! + loss * part.length;
      });
      this.#done += part.length;
      scoring.onProgress?.({ done: this.#done, total: this.passes * indices.length });
    }
    return summarise(perImage, sums);
  }
}

function summarise(perImage: number[], sums: number[]): Loss {
  const count = perImage.length;
  const mean = perImage.reduce((total, loss) => total + loss, 0) / count;
  const squares = perImage.reduce((total, loss) => total + (loss - mean) ** 2, 0);
  return {
    mean,
    perScale: sums.map((sum) => sum / count),
    standardError: count > 1 ? Math.sqrt(squares / (count - 1) / count) : 0,
  };
}
