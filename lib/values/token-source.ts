/** What training and evaluation need of a set of tokens: a {@link TokenSet} has it, and so may a set of your own. */

/** Rows of a set, in the order of the indices that were asked for. */
export interface TokenBatch {
  /** `[count, numTokens]`. */
  tokens: Int32Array;
  /** `[count]`. */
  labels: Int32Array;
}

export interface TokenSource {
  /** Images. */
  readonly length: number;
  /** Class names by label. */
  readonly classes: readonly string[];
  /** Sides of the scales, ascending. */
  readonly sides: readonly number[];
  readonly codebookSize: number;
  /** Of the tokenizer that made the tokens. */
  readonly fingerprint: string;
  /** Label of every image, `[length]`. */
  readonly labels: Int32Array;
  /** Where it lies, when it is a folder. */
  readonly folder?: string;
  /** Bytes of memory that it holds. */
  readonly heldBytes?: number;
  /** Rows in the order of `indices`, of which one may come twice. */
  read(indices: ArrayLike<number>): Promise<TokenBatch>;
}
