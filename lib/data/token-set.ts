/**
 * A folder of token shards, opened for reading by position. Node cannot map files: a set that fits into the given
 * memory (nearly always: 60,000 images of 130 tokens are 15 MB) is read and checked once; of a larger one the labels
 * are kept, and rows are read at their places when they are asked for, from files that the operating system caches.
 */

import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { TimeSlice } from "../base/time-slice.js";
import { markUncloneable } from "../base/uncloneable.js";
import { InvalidOptionError, InvalidTokensError, IoError } from "../errors.js";
import { checkInteger, checkObject, checkPath, optional } from "../options/check.js";
import { numTokens as numTokensOf } from "../values/architecture.js";
import type { TokenBatch } from "../values/token-source.js";
import {
  finishedEntries,
  MANIFEST,
  type Manifest,
  type PictureSettings,
  readManifest,
  type ShardEntry,
} from "./manifest.js";
import { decodeLabels, decodeTokens, hashOf, layoutOf, type ShardLayout } from "./shard.js";

export interface TokenSetOptions {
  /** Tokens of the whole set are held in memory when they take no more bytes than this. Default 1 GiB. */
  memoryBytes?: number;
}

interface Shard extends ShardEntry {
  path: string;
  layout: ShardLayout;
  /** Number of its first image in the set. */
  first: number;
}

const DEFAULT_MEMORY = 2 ** 30;

export class TokenSet {
  readonly folder: string;
  /** Sides of the scales, ascending. */
  readonly sides: readonly number[];
  /** Tokens per image. */
  readonly numTokens: number;
  readonly codebookSize: number;
  readonly codeDim: number;
  /** Of the tokenizer that made the tokens; compare it with {@link Model.tokenizerFingerprint}. */
  readonly fingerprint: string;
  /** Class names by label. */
  readonly classes: readonly string[];
  /** Images. */
  readonly length: number;
  /** How the pictures were cut to size. */
  readonly pictures: Readonly<PictureSettings>;
  /** Of every image: `[length]`. */
  readonly labels: Int32Array;
  readonly #shards: Shard[];
  /** Tokens of the whole set, or null when they stay in the files. */
  #held: Uint16Array | Int32Array | null = null;

  private constructor(folder: string, manifest: Manifest, shards: Shard[]) {
    markUncloneable(this);
    this.folder = folder;
    this.sides = manifest.sides;
    this.numTokens = numTokensOf(manifest.sides);
    this.codebookSize = manifest.codebookSize;
    this.codeDim = manifest.codeDim;
    this.fingerprint = manifest.fingerprint;
    this.classes = manifest.classes;
    this.pictures = manifest.pictures;
    this.length = shards.reduce((total, { count }) => total + count, 0);
    this.labels = new Int32Array(this.length);
    this.#shards = shards;
  }

  /**
   * Opens a finished set. Sizes and headers of all shards are checked now; hashes, tokens and labels too when the set
   * is held in memory, else tokens when they are read.
   *
   * @throws InvalidTokensError, IoError, InvalidOptionError
   */
  static async open(place: string | URL, options?: TokenSetOptions): Promise<TokenSet> {
    const folder = checkPath("folder", place);
    const { memoryBytes: raw } = checkObject("options", options, ["memoryBytes"]);
    const memoryBytes =
      optional(raw, (value) => checkInteger("memoryBytes", value, 0, Number.MAX_SAFE_INTEGER)) ?? DEFAULT_MEMORY;
    const manifest = await readManifest(folder);
    if (manifest === null) {
      throw new InvalidTokensError(folder, `a folder without ${MANIFEST}`, "a token set, made by tokenize");
    }
    const done = finishedEntries(manifest);
    if (done !== manifest.entries) {
      const found = `an unfinished one (${done} of ${manifest.entries} images)`;
      throw new InvalidTokensError(folder, found, "a finished token set: run the same tokenize once more");
    }
    const shards = shardsOf(folder, manifest);
    for (const { path, layout } of shards) await requireSize(path, layout.fileBytes); // before memory is taken for them
    const set = new TokenSet(folder, manifest, shards);
    if (set.length === 0) throw new InvalidTokensError(folder, "no images", "at least one");
    await set.#load(memoryBytes);
    return set;
  }

  /** Bytes of memory that the set holds. */
  get heldBytes(): number {
    return this.labels.byteLength + (this.#held?.byteLength ?? 0);
  }

  /** Label of one image. */
  labelAt(index: number): number {
    checkInteger("index", index, 0, this.length - 1);
    return this.labels[index]!;
  }

  /**
   * Tokens and labels of the images at `indices`, in that order; an index may come twice.
   *
   * @throws InvalidOptionError for an index outside `0 .. length-1`, InvalidTokensError, IoError
   */
  async read(indices: ArrayLike<number>): Promise<TokenBatch> {
    const count = indices.length;
    const labels = new Int32Array(count);
    for (let row = 0; row < count; row++) {
      const index = indices[row]!;
      if (!Number.isInteger(index) || index < 0 || index >= this.length) {
        throw new InvalidOptionError(`indices[${row}]`, String(index), `an integer in 0..${this.length - 1}`);
      }
      labels[row] = this.labels[index]!;
    }
    const tokens = new Int32Array(count * this.numTokens);
    if (this.#held === null) await this.#readRows(indices, tokens);
    else await this.#copyRows(this.#held, indices, tokens);
    return { tokens, labels };
  }

  async #copyRows(held: Uint16Array | Int32Array, indices: ArrayLike<number>, tokens: Int32Array): Promise<void> {
    const length = this.numTokens;
    const slice = new TimeSlice();
    for (let row = 0; row < indices.length; row++) {
      const start = indices[row]! * length;
      tokens.set(held.subarray(start, start + length), row * length);
      if (slice.over) await slice.pause();
    }
  }

  /** Shard by shard, so that each file is opened once. */
  async #readRows(indices: ArrayLike<number>, tokens: Int32Array): Promise<void> {
    const rowsOf = new Map<Shard, number[]>();
    for (let row = 0; row < indices.length; row++) {
      const shard = this.#shardOf(indices[row]!);
      const rows = rowsOf.get(shard);
      if (rows === undefined) rowsOf.set(shard, [row]);
      else rows.push(row);
    }
    for (const [shard, rows] of rowsOf) {
      const { layout, path, first } = shard;
      const rowBytes = this.numTokens * layout.bytesPerToken;
      await withFile(path, async (file) => {
        for (const row of rows) {
          const at = layout.tokensOffset + (indices[row]! - first) * rowBytes;
          decodeTokens(path, await readExactly(file, path, at, rowBytes), this, tokens, row * this.numTokens);
        }
      });
    }
  }

  /** The last shard that begins at or before `index`; empty shards begin where their successor does. */
  #shardOf(index: number): Shard {
    let low = 0;
    let high = this.#shards.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#shards[middle]!.first <= index) low = middle;
      else high = middle - 1;
    }
    return this.#shards[low]!;
  }

  async #load(memoryBytes: number): Promise<void> {
    const bytesPerToken = this.#shards[0]!.layout.bytesPerToken;
    const total = this.length * this.numTokens;
    const held =
      total * bytesPerToken > memoryBytes ? null : bytesPerToken === 2 ? new Uint16Array(total) : new Int32Array(total);
    for (const shard of this.#shards) await withFile(shard.path, (file) => this.#loadShard(file, shard, held));
    this.#held = held;
  }

  async #loadShard(file: FileHandle, shard: Shard, held: Uint16Array | Int32Array | null): Promise<void> {
    const { path, layout, first, sha256 } = shard;
    const bytes = await readExactly(file, path, 0, held === null ? layout.tokensOffset : layout.fileBytes);
    if (!bytes.subarray(0, layout.header.length).equals(layout.header)) {
      throw new InvalidTokensError(path, "another header", `the header of ${shard.count} x ${this.numTokens} tokens`);
    }
    const labels = bytes.subarray(layout.labelsOffset, layout.tokensOffset);
    decodeLabels(path, labels, this.classes.length, this.labels, first);
    if (held === null) return;
    const rowBytes = this.numTokens * layout.bytesPerToken;
    const slice = new TimeSlice();
    for (let row = 0; row < shard.count; row++) {
      const start = layout.tokensOffset + row * rowBytes;
      decodeTokens(path, bytes.subarray(start, start + rowBytes), this, held, (first + row) * this.numTokens);
      if (slice.over) await slice.pause();
    }
    const found = await hashOf(bytes);
    if (found !== sha256) throw new InvalidTokensError(path, `content with SHA-256 ${found}`, `SHA-256 ${sha256}`);
  }
}

function shardsOf(folder: string, { shards, sides, codebookSize }: Manifest): Shard[] {
  const numTokens = numTokensOf(sides);
  let first = 0;
  return shards.map((entry) => {
    const layout = layoutOf({ count: entry.count, numTokens, codebookSize });
    const shard = { ...entry, path: join(folder, entry.file), layout, first };
    first += entry.count;
    return shard;
  });
}

async function requireSize(path: string, fileBytes: number): Promise<void> {
  const { size } = await withFile(path, (file) => file.stat());
  if (size !== fileBytes) throw new InvalidTokensError(path, `${size} bytes`, `${fileBytes} bytes`);
}

async function withFile<T>(path: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") {
      throw new InvalidTokensError(path, "no such file", `the shard that ${MANIFEST} lists`, { cause });
    }
    throw new IoError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

async function readExactly(file: FileHandle, path: string, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await file.read(bytes, done, length - done, at + done));
    } catch (cause) {
      throw new IoError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
    }
    if (bytesRead === 0) throw new InvalidTokensError(path, `an end at byte ${at + done}`, `${at + length} bytes`);
    done += bytesRead;
  }
  return bytes;
}
