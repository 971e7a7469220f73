/** Do these tokens belong to this model, and which of its classes is each of theirs? */

import { InvalidTokensError } from "../errors.js";
import type { Architecture } from "../values/architecture.js";
import type { TokenSet } from "./token-set.js";

/** The part of a model that decides. */
export interface TokenReader {
  readonly architecture: Pick<Architecture, "sides" | "codebookSize" | "numClasses">;
  readonly tokenizerFingerprint: string;
  /** Class names by number; may be empty. */
  readonly labels: readonly string[];
}

/**
 * Refuses tokens of another tokenizer or of other scales.
 *
 * @throws InvalidTokensError
 */
export function requireTokenizer(
  { folder, sides, codebookSize, fingerprint }: Pick<TokenSet, "folder" | "sides" | "codebookSize" | "fingerprint">,
  {
    architecture,
    tokenizerFingerprint: own,
  }: Pick<TokenReader, "tokenizerFingerprint"> & {
    architecture: Pick<Architecture, "sides" | "codebookSize">;
  },
): void {
  if (codebookSize !== architecture.codebookSize) {
    const found = `tokens of a codebook of ${codebookSize}`;
    throw new InvalidTokensError(folder, found, `a codebook of ${architecture.codebookSize}, the model's`);
  }
  if (sides.join() !== architecture.sides.join()) {
    throw new InvalidTokensError(folder, `scales of ${sides.join(", ")}`, `scales of ${architecture.sides.join(", ")}`);
  }
  if (fingerprint !== own) {
    const found = `tokens of the tokenizer ${fingerprint.slice(0, 12)}`;
    throw new InvalidTokensError(
      folder,
      found,
      `tokens of ${own.slice(0, 12)}, the model's: tokenize again with this model`,
    );
  }
}

/**
 * The model's class for each class of a set: by name where the model knows every name (or where they are numbers and fewer
 * than the model's), else by place, when there are as many.
 *
 * @throws InvalidTokensError
 */
export function classLabels({ folder, classes }: Pick<TokenSet, "folder" | "classes">, model: TokenReader): Int32Array {
  const { numClasses } = model.architecture;
  const names = model.labels.map((name) => name.trim().toLowerCase());
  const byName = classes.map((name) => names.indexOf(name.trim().toLowerCase()));
  if (!byName.includes(-1) && new Set(byName).size === classes.length) return Int32Array.from(byName);
  if (classes.length === numClasses) return Int32Array.from(classes, (_, place) => place);
  const byNumber = classes.map((name) => (/^(0|[1-9]\d{0,8})$/.test(name) ? Number(name) : -1));
  if (classes.length < numClasses && byNumber.every((number) => number >= 0 && number < numClasses)) {
    return Int32Array.from(byNumber);
  }
  const unknown = classes.find((_, place) => byName[place] === -1);
  const found = `${classes.length} class${classes.length > 1 ? "es" : ""} (such as ${JSON.stringify(unknown ?? classes[0])})`;
  throw new InvalidTokensError(folder, found, `${numClasses} classes, as the model has, or names that it knows`);
}
