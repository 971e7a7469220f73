/** The tokens of a training: opened, told apart by their content, checked for classes without images. */

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MANIFEST } from "../data/manifest.js";
import { TokenSet } from "../data/token-set.js";
import { InvalidOptionError } from "../errors.js";
import { type ClassMap, isIdentity } from "../labels/index.js";
import type { TokenSource } from "../values/token-source.js";

/** Opens the folder, or takes the set as it is. @throws InvalidTokensError, IoError, InvalidOptionError */
export async function openTokens(option: string, tokens: string | TokenSource): Promise<TokenSource> {
  const source = typeof tokens === "string" ? await TokenSet.open(tokens) : tokens;
  if (source.length > 0) return source;
  throw new InvalidOptionError(option, "a token set without images", "at least one image");
}

/**
 * SHA-256 that tells sets apart by their content: of the list of shards with their hashes, or of all labels and tokens.
 */
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

/** The same images with the numbers of the model's classes as their labels. */
export function relabelled(source: TokenSource, map: ClassMap): TokenSource {
  if (isIdentity(map)) return source;
  const toModel = (labels: Int32Array) => labels.map((label) => map.classes[label]!);
  const { length, classes, sides, codebookSize, fingerprint, labels, folder, heldBytes } = source;
  return {
    ...{ length, classes, sides, codebookSize, fingerprint, labels: toModel(labels) },
    ...(folder !== undefined && { folder }),
    ...(heldBytes !== undefined && { heldBytes }),
    async read(indices) {
      const batch = await source.read(indices);
      return { tokens: batch.tokens, labels: toModel(batch.labels) };
    },
  };
}
