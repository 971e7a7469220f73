/** Token sets and folders of images for tests, and an encoder whose tokens tell what it saw. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { onTestFinished } from "vitest";
import { type Manifest, shardName, writeManifest } from "../../lib/data/manifest.js";
import { encodeShard, hashOf } from "../../lib/data/shard.js";
import type { TokenEncoder } from "../../lib/data/tokenize.js";
import type { ImageLike } from "../../lib/image/planes.js";
import { TokenMaps } from "../../lib/values/tokens.js";

/** A folder that goes away with the test. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "nextscale-data-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const SIDES = [1, 2];
const NUM_TOKENS = 5;

/**
 * Remembers every picture; its tokens are the red, green and blue of the first pixel, of the last red and the number of
 * calls' 0.
 */
export class FakeEncoder implements TokenEncoder {
  readonly architecture;
  readonly tokenizerFingerprint: string;
  readonly seen: ImageLike[] = [];
  readonly batches: number[] = [];
  /** Called before each batch. */
  before: () => void = () => undefined;

  constructor({ imageSide = 8, fingerprint = "ab".repeat(32), codebookSize = 256 } = {}) {
    this.architecture = { sides: SIDES, imageSide, numTokens: NUM_TOKENS, codebookSize, codeDim: 4 };
    this.tokenizerFingerprint = fingerprint;
  }

  async encode(images: ImageLike[]): Promise<TokenMaps> {
    this.before();
    this.seen.push(...images);
    this.batches.push(images.length);
    const rows = images.map(({ data }) => [data[0]!, data[1]!, data[2]!, data.at(-3)!, 7]);
    return new TokenMaps(Int32Array.from(rows.flat()), SIDES);
  }
}

/** Pixels of one channel; `at` gives the value of a place. */
export function pixels(width: number, height: number, at: (x: number, y: number) => number): Buffer {
  return Buffer.from(Array.from({ length: width * height }, (_, i) => at(i % width, Math.floor(i / width))));
}

/** Writes a grey PNG; folders are made. */
export async function writePng(path: string, side: number, at: (x: number, y: number) => number): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const raw = { width: side, height: side, channels: 1 as const };
  writeFileSync(
    path,
    await sharp(pixels(side, side, at), { raw })
      .png()
      .toBuffer(),
  );
}

/** `root/class/name.png`, each of one grey: `greys["a"] = [10, 20]` makes a/000.png and a/001.png. */
export async function writeClasses(root: string, greys: Record<string, number[]>, side = 8): Promise<void> {
  for (const [name, values] of Object.entries(greys)) {
    for (const [index, grey] of values.entries()) {
      await writePng(join(root, name, `${String(index).padStart(3, "0")}.png`), side, () => grey);
    }
  }
}

export interface SetParts {
  sides?: number[];
  codebookSize?: number;
  codeDim?: number;
  fingerprint?: string;
  classes?: string[];
  /** Images per shard. */
  counts: number[];
  labels: Int32Array;
  /** `[images, numTokens]`. */
  tokens: Int32Array;
}

/** Writes a finished token set with these very numbers, valid or not. */
export async function writeTokenSet(folder: string, parts: SetParts): Promise<Manifest> {
  const { sides = SIDES, codebookSize = 256, codeDim = 4, fingerprint = "ab".repeat(32), classes = ["a", "b"] } = parts;
  const numTokens = sides.reduce((total, side) => total + side * side, 0);
  mkdirSync(folder, { recursive: true });
  const shards: Manifest["shards"] = [];
  let first = 0;
  for (const [index, count] of parts.counts.entries()) {
    const labels = parts.labels.slice(first, first + count);
    const tokens = parts.tokens.slice(first * numTokens, (first + count) * numTokens);
    const bytes = encodeShard({ count, numTokens, codebookSize }, labels, tokens);
    const file = shardName(index);
    writeFileSync(join(folder, file), bytes);
    shards.push({ file, entries: Math.max(1, count), count, sha256: await hashOf(bytes) });
    first += count;
  }
  const manifest: Manifest = {
    version: 1,
    sides,
    codebookSize,
    codeDim,
    fingerprint,
    classes,
    pictures: { side: 8, fit: "cover", resize: 8, crop: "centre", flip: false, seed: "0" },
    plan: "cd".repeat(32),
    entries: shards.reduce((total, { entries }) => total + entries, 0),
    shards,
    skipped: [],
  };
  await writeManifest(folder, manifest);
  return manifest;
}
