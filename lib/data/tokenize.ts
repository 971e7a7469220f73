/**
 * A folder of images -> a token set: reads pictures ahead of the encoder, writes shard after shard, goes on where it
 * stopped.
 */

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { AbortError, InvalidOptionError, InvalidTokensError, IoError } from "../errors.js";
import { writeAtomically } from "../files/atomic-file.js";
import type { ImageLike } from "../image/planes.js";
import { fail } from "../options/check.js";
import { type ResolvedTokenizeSettings, resolveTokenizeSettings, type TokenizeSettings } from "../options/tokenize.js";
import type { Architecture } from "../values/architecture.js";
import type { TokenMaps } from "../values/tokens.js";
import { type ImageFolder, type SourceFile, scanImageFolder } from "./image-folder.js";
import {
  finishedEntries,
  MANIFEST,
  type Manifest,
  type PictureSettings,
  readManifest,
  type SkippedFile,
  shardName,
  writeManifest,
} from "./manifest.js";
import { cropPosition, readPicture } from "./picture.js";
import { encodeShard, hashOf, layoutOf } from "./shard.js";
import { Verdicts } from "./verdict.js";

/** What turns images into tokens: a {@link Model}, or a {@link Tokenizer}. */
export interface TokenEncoder {
  readonly architecture: Pick<Architecture, "sides" | "imageSide" | "numTokens" | "codebookSize" | "codeDim">;
  readonly tokenizerFingerprint: string;
  encode(images: ImageLike[]): Promise<TokenMaps>;
}

export interface TokenizeOptions extends TokenizeSettings {
  model: TokenEncoder;
}

export interface TokenizeResult {
  /** The folder of the set. */
  output: string;
  /** Names by label. */
  classes: string[];
  /** Images in the set, mirrored ones included. */
  images: number;
  /** Of them, how many an earlier run had finished. */
  resumed: number;
  shards: number;
  /** Bytes of the shards. */
  bytes: number;
  /** Files that could not be read, with the reason; they are listed in `tokens.json` as well. */
  skipped: SkippedFile[];
  /** Files beside the class folders, which belong to no class. */
  strayFiles: string[];
}

/** One picture to make: a file, as it is or mirrored. */
interface Entry extends SourceFile {
  mirrored: boolean;
}

/**
 * Turns a folder of images (one sub-folder per class, sorted by name; files at any depth below) into a token set for
 * training and evaluation. Any format that sharp reads will do; pictures become upright sRGB on black. Files that are
 * proven bad are skipped and listed with the codec's reason; where the system fails (no memory, no thread, no handle,
 * no permission) the run ends, and the next one tries the file again. The work is cut into shards: after an
 * interruption, the same call goes on after the last finished one, and the result is the same to the byte.
 *
 * @throws InvalidOptionError (also when a class is left without an image), InvalidTokensError (the folder holds another
 *   set), IoError, OutOfMemoryError, AbortError
 */
export function tokenizeImages(options: TokenizeOptions): Promise<TokenizeResult> {
  return tokenize(options, readPicture);
}

/** @internal Tests hand in a reader that fails. */
export async function tokenize(options: TokenizeOptions, read: typeof readPicture): Promise<TokenizeResult> {
  const { model, ...rest } = options ?? {};
  if (typeof model?.encode !== "function") fail("model", model, "a model or a tokenizer");
  const { sides, imageSide, codebookSize, codeDim } = model.architecture;
  const settings = resolveTokenizeSettings(rest, imageSide);
  requireGoing(settings);
  const folder = await scanImageFolder(settings.images, settings.maxPerClass);
  requireGoing(settings);
  const { fit, resize, crop, flip, seed } = settings;
  const fresh: Manifest = {
    version: 1,
    sides: [...sides],
    codebookSize,
    codeDim,
    fingerprint: model.tokenizerFingerprint,
    classes: folder.classes,
    pictures: { side: imageSide, fit, resize, crop, flip, seed: String(seed) },
    plan: "",
    entries: folder.files.length * (flip ? 2 : 1),
    shards: [],
    skipped: [],
  };
  fresh.plan = planOf(fresh, folder.files);
  const manifest = await begin(fresh, settings, folder.files);
  const resumed = manifest.shards.reduce((total, { count }) => total + count, 0);
  await new Tokenization(model, settings, folder.files, manifest, read).run();
  return summarise(manifest, settings.output, folder, resumed);
}

/** Hash over everything that decides what the shards hold, but for how the work is cut into shards and batches. */
function planOf({ version, sides, fingerprint, classes, pictures }: Manifest, files: readonly SourceFile[]): string {
  const hash = createHash("sha256").update(JSON.stringify({ version, sides, fingerprint, classes, pictures }));
  for (const { path, bytes, mtimeMs } of files) hash.update(`\n${path}\0${bytes}\0${mtimeMs}`);
  return hash.digest("hex");
}

/** The manifest to go on with: that of an interrupted run of the same plan, or a new one. */
async function begin(
  fresh: Manifest,
  { output, overwrite }: ResolvedTokenizeSettings,
  files: readonly SourceFile[],
): Promise<Manifest> {
  try {
    await mkdir(output, { recursive: true });
    await removeLeftovers(output);
  } catch (cause) {
    throw new IoError(`cannot write into the folder ${output}: ${(cause as Error).message}`, { cause });
  }
  const found = overwrite ? null : await readManifest(output);
  if (found === null) {
    if (overwrite) await removeShards(output);
    await writeManifest(output, fresh); // says at once that the folder cannot be written
    return fresh;
  }
  if (found.plan !== fresh.plan) {
    throw new InvalidTokensError(
      output,
      `a token set of ${differenceOf(found, fresh)}`,
      "an empty folder, or the set of these images with these settings (overwrite starts anew)",
    );
  }
  await keepWholeShards(output, found, files);
  return found;
}

function differenceOf(found: Manifest, wanted: Manifest): string {
  if (found.fingerprint !== wanted.fingerprint) return "another tokenizer";
  const same = (key: keyof Manifest) => JSON.stringify(found[key]) === JSON.stringify(wanted[key]);
  if (!same("sides")) return "other scales";
  if (!same("classes")) return "other classes";
  return same("pictures") ? "other files" : "other settings";
}

/** Shards up to the first one that is missing or damaged, and what was skipped on the way to there. */
async function keepWholeShards(output: string, manifest: Manifest, files: readonly SourceFile[]): Promise<void> {
  for (const [index, { file, sha256 }] of manifest.shards.entries()) {
    const bytes = await readFile(join(output, file)).catch(() => null);
    if (bytes !== null && (await hashOf(bytes)) === sha256) continue;
    manifest.shards.length = index;
    const done = new Set(files.slice(0, finishedEntries(manifest)).map(({ path }) => path));
    manifest.skipped = manifest.skipped.filter(({ path }) => done.has(path));
    return;
  }
}

const LEFTOVER = /^\.(shard-\d+\.safetensors|tokens\.json)\.\d+-[0-9a-f]{8}\.tmp$/;

/** Half-written files of a run that was killed. */
async function removeLeftovers(output: string): Promise<void> {
  for (const name of await readdir(output)) if (LEFTOVER.test(name)) await rm(join(output, name), { force: true });
}

async function removeShards(output: string): Promise<void> {
  await rm(join(output, MANIFEST), { force: true }); // first: without it the folder holds no set
  for (const name of await readdir(output)) {
    if (/^shard-\d+\.safetensors$/.test(name)) await rm(join(output, name), { force: true });
  }
}

interface Picture {
  entry: Entry;
  image: ImageLike | null;
  reason: string;
}

/** Pictures being read at a time; libvips brings threads of its own. */
const READERS = 8;

class Tokenization {
  readonly #verdicts = new Verdicts();
  readonly #resumed: number;
  #done: number;

  constructor(
    readonly model: TokenEncoder,
    readonly settings: ResolvedTokenizeSettings,
    readonly files: readonly SourceFile[],
    readonly manifest: Manifest,
    readonly read: typeof readPicture,
  ) {
    this.#resumed = finishedEntries(manifest);
    this.#done = this.#resumed;
  }

  async run(): Promise<void> {
    this.#report();
    const { shardSize } = this.settings;
    const { entries } = this.manifest;
    for (let first = this.#resumed; first < entries; first += shardSize) {
      await this.#shard(first, Math.min(entries, first + shardSize));
    }
  }

  /** Encodes and writes the entries `[first, end)`. */
  async #shard(first: number, end: number): Promise<void> {
    const { model, manifest, settings } = this;
    const { numTokens, codebookSize } = model.architecture;
    const labels: number[] = [];
    const parts: Int32Array[] = [];
    const skipped: SkippedFile[] = [];
    for await (const pictures of this.#batches(first, end)) {
      const good = pictures.filter(({ image }) => image !== null);
      for (const { entry, image, reason } of pictures) {
        if (image === null && !entry.mirrored) skipped.push({ path: entry.path, reason });
      }
      if (good.length > 0) parts.push((await model.encode(good.map(({ image }) => image!))).flat);
      labels.push(...good.map(({ entry }) => entry.label));
      this.#done += pictures.length;
      this.#report(skipped.length);
    }
    const tokens = new Int32Array(labels.length * numTokens);
    let at = 0;
    for (const part of parts) {
      tokens.set(part, at);
      at += part.length;
    }
    if (end === manifest.entries) requireClasses(manifest, this.files, skipped);
    const bytes = encodeShard({ count: labels.length, numTokens, codebookSize }, Int32Array.from(labels), tokens);
    const file = shardName(manifest.shards.length);
    await writeAtomically(join(settings.output, file), bytes);
    manifest.shards.push({ file, entries: end - first, count: labels.length, sha256: await hashOf(bytes) });
    manifest.skipped.push(...skipped);
    await writeManifest(settings.output, manifest);
  }

  /** Batches of pictures, in order; while one is encoded, the next one is being read. */
  async *#batches(first: number, end: number): AsyncGenerator<Picture[]> {
    const { batch } = this.settings;
    const start = (from: number) => {
      const reading = this.#read(from, Math.min(end, from + batch));
      reading.catch(() => undefined); // whoever awaits it hears of it
      return reading;
    };
    let ahead = start(first);
    for (let from = first; from < end; from += batch) {
      requireGoing(this.settings);
      const pictures = await ahead;
      if (from + batch < end) ahead = start(from + batch);
      yield pictures;
    }
    requireGoing(this.settings);
  }

  async #read(first: number, end: number): Promise<Picture[]> {
    const pictures = new Array<Picture>(end - first);
    let next = first;
    const reader = async () => {
      while (next < end) {
        if (this.settings.signal?.aborted) return;
        const index = next++;
        pictures[index - first] = await this.#picture(this.#entry(index));
      }
    };
    await Promise.all(Array.from({ length: Math.min(READERS, end - first) }, reader));
    requireGoing(this.settings);
    return pictures;
  }

  #entry(index: number): Entry {
    const { files } = this;
    return { ...files[index % files.length]!, mirrored: index >= files.length };
  }

  async #picture(entry: Entry): Promise<Picture> {
    const pictures: PictureSettings = this.manifest.pictures;
    const at = cropPosition(pictures, entry.path, entry.mirrored);
    const read = () => this.read(entry.place, pictures, at, entry.mirrored);
    try {
      return { entry, image: await read(), reason: "" };
    } catch (error) {
      const verdict = await this.#verdicts.judge(entry, error, read);
      return "good" in verdict
        ? { entry, image: verdict.good, reason: "" }
        : { entry, image: null, reason: verdict.bad };
    }
  }

  #report(newlySkipped = 0): void {
    const { entries: total, skipped } = this.manifest;
    this.settings.onProgress?.({
      done: this.#done,
      total,
      resumed: this.#resumed,
      skipped: skipped.length + newlySkipped,
    });
  }
}

function summarise(manifest: Manifest, output: string, folder: ImageFolder, resumed: number): TokenizeResult {
  const { shards, sides, codebookSize, classes, skipped } = manifest;
  const numTokens = sides.reduce((total, side) => total + side * side, 0);
  const images = shards.reduce((total, { count }) => total + count, 0);
  if (images === 0) {
    const first = skipped[0];
    const why = first === undefined ? "" : ` (${first.path}: ${first.reason})`;
    throw new InvalidOptionError(
      "images",
      `${skipped.length} files, none of them readable${why}`,
      "at least one image",
    );
  }
  const bytes = shards.reduce((sum, { count }) => sum + layoutOf({ count, numTokens, codebookSize }).fileBytes, 0);
  return { output, classes, images, resumed, shards: shards.length, bytes, skipped, strayFiles: folder.strayFiles };
}

/** Before the last shard is written: a set that lacks a class is not finished. */
function requireClasses({ classes, skipped }: Manifest, files: readonly SourceFile[], last: SkippedFile[]): void {
  const bad = new Map([...skipped, ...last].map(({ path, reason }) => [path, reason]));
  const filled = new Set(files.flatMap(({ path, label }) => (bad.has(path) ? [] : [label])));
  if (filled.size === classes.length || filled.size === 0) return; // none at all: summarise says so
  const empty = classes.findIndex((_, label) => !filled.has(label));
  const [first] = files.filter(({ label }) => label === empty);
  const found = `no readable image in the class ${classes[empty]} (${first!.path}: ${bad.get(first!.path)})`;
  throw new InvalidOptionError("images", found, "at least one image in every class");
}

function requireGoing({ signal }: ResolvedTokenizeSettings): void {
  if (signal?.aborted) throw new AbortError("tokenizing was cancelled", { cause: signal.reason });
}
