/** What the training needs of a set of tokens: `TokenSet` of lib/data has it, and so may a set of your own. */

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MANIFEST } from "../data/manifest.js";
import { TokenSet } from "../data/token-set.js";
import { InvalidOptionError } from "../errors.js";

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

export interface TokenBatch {
  tokens: Int32Array; // [B, numTokens]
  labels: Int32Array; // [B]
}

/** Opens the folder, or takes the set as it is. @throws InvalidTokensError, IoError, InvalidOptionError */
export async function openTokens(option: string, tokens: string | TokenSource): Promise<TokenSource> {
  const source = typeof tokens === "string" ? await TokenSet.open(tokens) : tokens;
  if (source.length > 0) return source;
  throw new InvalidOptionError(option, "a token set without images", "at least one image");
}

/** SHA-256 that tells sets apart by their content: of the list of shards with their hashes, or of all labels and tokens. */
export async function contentHash(source: TokenSource): Promise<string> {
  const hash = createHash("sha256");
  if (source.folder !== undefined) return hash.update(await readFile(join(source.folder, MANIFEST))).digest("hex");
  hash.update(JSON.stringify([source.classes, source.sides, source.codebookSize, source.fingerprint]));
  for (let index = 0; index < source.length; index++) {
    const { tokens, labels } = await source.read([index]);
    hash.update(bytesOf(labels)).update(bytesOf(tokens));
  }
  return hash.digest("hex");
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Classes without a single image: their label is never trained. */
export function emptyClasses({ classes, labels }: TokenSource): string[] {
  const seen = new Uint8Array(classes.length);
  for (let index = 0; index < labels.length; index++) seen[labels[index]!] = 1;
  return classes.filter((_, label) => seen[label] === 0);
}
