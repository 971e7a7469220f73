/**
 * `tokens.json` of a token set: what the shards beside it hold, how they were made, and how far the work has come. It
 * is rewritten (atomically) after each shard, so that an interrupted tokenization goes on where it stopped.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidTokensError, IoError } from "../errors.js";
import { writeAtomically } from "../files/atomic-file.js";

export const MANIFEST = "tokens.json";
const VERSION = 1;
const MAX_BYTES = 2 ** 28;

/** How pictures became pixels of the tokenizer's size. */
export interface PictureSettings {
  /** Width and height that the tokenizer sees. */
  side: number;
  fit: "cover" | "contain" | "fill" | "pad";
  /** Length of the shorter side before cropping. */
  resize: number;
  crop: "centre" | "random";
  /** Every image a second time, mirrored. */
  flip: boolean;
  /** Of random crops, in decimal. */
  seed: string;
}

/** One finished shard. */
export interface ShardEntry {
  file: string;
  /** Entries of the plan that it stands for: its images, and the files that could not be read. */
  entries: number;
  /** Images in it. */
  count: number;
  /** Of the whole file, in hexadecimal. */
  sha256: string;
}

export interface SkippedFile {
  /** Relative to the folder of images, with `/`. */
  path: string;
  reason: string;
}

export interface Manifest {
  version: number;
  /** Sides of the scales. */
  sides: number[];
  codebookSize: number;
  codeDim: number;
  /** Of the tokenizer, see {@link tokenizerFingerprint}. */
  fingerprint: string;
  /** Names by label. */
  classes: string[];
  pictures: PictureSettings;
  /** Hash over the list of files (paths, sizes, times) and everything else that decides what a shard holds. */
  plan: string;
  /** Of the plan: files, twice with `flip`. */
  entries: number;
  shards: ShardEntry[];
  skipped: SkippedFile[];
}

/** Entries that the finished shards stand for. */
export function finishedEntries({ shards }: Manifest): number {
  return shards.reduce((total, { entries }) => total + entries, 0);
}

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  await writeAtomically(join(folder, MANIFEST), Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`));
}

/** null when the folder has none. @throws InvalidTokensError, IoError */
export async function readManifest(folder: string): Promise<Manifest | null> {
  const path = join(folder, MANIFEST);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new IoError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  return parseManifest(path, text);
}

/** @throws InvalidTokensError */
export function parseManifest(path: string, text: string): Manifest {
  if (text.length > MAX_BYTES) {
    throw new InvalidTokensError(path, `${text.length} characters`, `at most ${MAX_BYTES}`);
  }
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new InvalidTokensError(path, `no JSON (${(cause as Error).message})`, "the description of a token set", {
      cause,
    });
  }
  return new Reader(path).manifest(raw);
}

const FITS = ["cover", "contain", "fill", "pad"] as const;
const CROPS = ["centre", "random"] as const;

/** Every field with its type and range; anything else is refused by its name. */
class Reader {
  constructor(readonly path: string) {}

  manifest(raw: unknown): Manifest {
    const object = this.#object("the file", raw);
    const version = this.#integer("version", object.version, 1, 2 ** 31);
    if (version !== VERSION) this.#fail("version", version, `version ${VERSION}, the one that this nextscale reads`);
    const manifest: Manifest = {
      version,
      sides: this.#list("sides", object.sides, 1, 1024, (at, side) => this.#integer(at, side, 1, 1024)),
      codebookSize: this.#integer("codebookSize", object.codebookSize, 1, 2 ** 31 - 1),
      codeDim: this.#integer("codeDim", object.codeDim, 1, 2 ** 20),
      fingerprint: this.#match("fingerprint", object.fingerprint, /^[0-9a-f]{64}$/, "64 hexadecimal digits"),
      classes: this.#list("classes", object.classes, 1, 2 ** 20, (at, name) => this.#match(at, name, /./su, "a name")),
      pictures: this.#pictures(object.pictures),
      plan: this.#match("plan", object.plan, /^[0-9a-f]{64}$/, "64 hexadecimal digits"),
      entries: this.#integer("entries", object.entries, 0, 2 ** 31),
      shards: this.#list("shards", object.shards, 0, 2 ** 24, (at, shard, index) => this.#shard(at, shard, index)),
      skipped: this.#list("skipped", object.skipped, 0, 2 ** 31, (at, file) => this.#skipped(at, file)),
    };
    const done = finishedEntries(manifest);
    if (done > manifest.entries)
      this.#fail("shards", `${done} entries`, `at most ${manifest.entries}, all of the plan`);
    return manifest;
  }

  #pictures(raw: unknown): PictureSettings {
    const object = this.#object("pictures", raw);
    if (typeof object.flip !== "boolean") this.#fail("pictures.flip", object.flip, "true or false");
    return {
      side: this.#integer("pictures.side", object.side, 1, 16_384),
      fit: this.#oneOf("pictures.fit", object.fit, FITS),
      resize: this.#integer("pictures.resize", object.resize, 1, 16_384),
      crop: this.#oneOf("pictures.crop", object.crop, CROPS),
      flip: object.flip,
      seed: this.#match("pictures.seed", object.seed, /^\d{1,20}$/, "a number of up to 20 digits"),
    };
  }

  #shard(at: string, raw: unknown, index: number): ShardEntry {
    const object = this.#object(at, raw);
    const entries = this.#integer(`${at}.entries`, object.entries, 1, 2 ** 20);
    const file = shardName(index); // never a path out of the folder
    if (object.file !== file) this.#fail(`${at}.file`, object.file, JSON.stringify(file));
    return {
      file,
      entries,
      count: this.#integer(`${at}.count`, object.count, 0, entries),
      sha256: this.#match(`${at}.sha256`, object.sha256, /^[0-9a-f]{64}$/, "64 hexadecimal digits"),
    };
  }

  #skipped(at: string, raw: unknown): SkippedFile {
    const object = this.#object(at, raw);
    return {
      path: this.#match(`${at}.path`, object.path, /./su, "a path"),
      reason: this.#match(`${at}.reason`, object.reason, /./su, "a reason"),
    };
  }

  #object(at: string, raw: unknown): Record<string, unknown> {
    if (typeof raw !== "object" || raw === null || Array.isArray(raw)) this.#fail(at, raw, "an object");
    return raw as Record<string, unknown>;
  }

  #integer(at: string, raw: unknown, min: number, max: number): number {
    if (typeof raw !== "number" || !Number.isInteger(raw) || raw < min || raw > max) {
      this.#fail(at, raw, `an integer in ${min}..${max}`);
    }
    return raw;
  }

  #match(at: string, raw: unknown, pattern: RegExp, expected: string): string {
    if (typeof raw !== "string" || !pattern.test(raw)) this.#fail(at, raw, expected);
    return raw;
  }

  #oneOf<T extends string>(at: string, raw: unknown, words: readonly T[]): T {
    if (!words.includes(raw as T)) this.#fail(at, raw, `one of ${words.join(", ")}`);
    return raw as T;
  }

  #list<T>(
    at: string,
    raw: unknown,
    min: number,
    max: number,
    one: (at: string, raw: unknown, index: number) => T,
  ): T[] {
    if (!Array.isArray(raw) || raw.length < min || raw.length > max) this.#fail(at, raw, `a list of ${min}..${max}`);
    return raw.map((item, index) => one(`${at}[${index}]`, item, index));
  }

  #fail(at: string, found: unknown, expected: string): never {
    const text = JSON.stringify(found) ?? "nothing";
    const short = text.length > 60 ? `${text.slice(0, 57)}...` : text;
    throw new InvalidTokensError(this.path, `${at}: ${short}`, expected);
  }
}

/** `shard-00012.safetensors` */
export function shardName(index: number): string {
  return `shard-${String(index).padStart(5, "0")}.safetensors`;
}
