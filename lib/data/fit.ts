/** Do these tokens belong to this model? Which of its classes theirs are is for lib/labels to say. */

import { InvalidTokensError } from "../errors.js";
import type { Architecture } from "../values/architecture.js";
import type { TokenSource } from "../values/token-source.js";

/** The part of a model that decides. */
export interface TokenReader {
  readonly architecture: Pick<Architecture, "sides" | "codebookSize">;
  readonly tokenizerFingerprint: string;
}

/**
 * Refuses tokens of another tokenizer or of other scales.
 *
 * @param where they are: a folder, or the option that brought them
 * @param whose who reads them, for the message
 * @throws InvalidTokensError
 */
export function requireTokens(
  where: string,
  { sides, codebookSize, fingerprint }: Pick<TokenSource, "sides" | "codebookSize" | "fingerprint">,
  { architecture, tokenizerFingerprint: own }: TokenReader,
  whose: "the model" | "the base",
): void {
  if (codebookSize !== architecture.codebookSize) {
    const found = `tokens of a codebook of ${codebookSize}`;
    throw new InvalidTokensError(where, found, `a codebook of ${architecture.codebookSize}, ${whose}'s`);
  }
  if (sides.join() !== architecture.sides.join()) {
    const expected = `scales of ${architecture.sides.join(", ")}, ${whose}'s`;
    throw new InvalidTokensError(where, `scales of ${sides.join(", ")}`, expected);
  }
  if (fingerprint !== own) {
    const found = `tokens of the tokenizer ${fingerprint.slice(0, 12)}`;
    const expected = `tokens of ${own.slice(0, 12)}, ${whose}'s (tokens of another tokenizer mean other pictures: tokenize again with ${whose})`;
    throw new InvalidTokensError(where, found, expected);
  }
}
