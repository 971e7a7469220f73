/** Do these tokens belong to this model? Which of its classes theirs are is for lib/labels to say. */

import { InvalidTokensError } from "../errors.js";
import type { Architecture } from "../values/architecture.js";
import type { TokenSet } from "./token-set.js";

/** The part of a model that decides. */
export interface TokenReader {
  readonly architecture: Pick<Architecture, "sides" | "codebookSize">;
  readonly tokenizerFingerprint: string;
}

/**
 * Refuses tokens of another tokenizer or of other scales.
 *
 * @throws InvalidTokensError
 */
export function requireTokenizer(
  { folder, sides, codebookSize, fingerprint }: Pick<TokenSet, "folder" | "sides" | "codebookSize" | "fingerprint">,
  { architecture, tokenizerFingerprint: own }: TokenReader,
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
