/** Images of a run -> one file, a grid, or a folder of files. */

import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { IoError } from "../errors.js";
import { type EncodeOptions, formatOf, Image, type ImageFormat } from "../image/image.js";
import { gridShape, requireEncodable } from "../image/limits.js";
import { slug } from "./format.js";
import type { Output } from "./output.js";

export interface ImageFacts {
  /** Number in the run. */
  index: number;
  seed: number | bigint;
  classIndex: number;
  /** Name of the class, or its number. */
  name: string;
}

export interface WrittenImage extends ImageFacts {
  /** Its own file; null where it is part of a grid or nothing is written. */
  path: string | null;
  width: number;
  height: number;
}

export interface WriterOptions extends EncodeOptions {
  format: ImageFormat;
  /** Write a grid into a folder as well. */
  grid?: boolean;
  columns: number;
  gap: number;
}

export class ImageWriter {
  readonly images: WrittenImage[] = [];
  /** Everything written, in order. */
  readonly files: string[] = [];
  gridPath: string | null = null;
  elapsedMs = 0;
  readonly #pictures: Image[] = [];

  constructor(
    readonly output: Output,
    readonly options: WriterOptions,
  ) {}

  /** Refuses what the format cannot hold, before anything is drawn. @throws InvalidOptionError */
  requireRoom(count: number, side: number): void {
    const { kind, path } = this.output;
    const { columns, gap, format, grid } = this.options;
    const whole = count === 1 ? { width: side, height: side } : gridShape(count, side, side, columns, gap);
    if (kind === "file") requireEncodable("output", formatOf(path) ?? "png", whole.width, whole.height);
    if (kind !== "folder") return;
    requireEncodable("format", format, side, side);
    if (grid) requireEncodable("grid", format, whole.width, whole.height);
  }

  /** Into a folder at once, so that an interrupted run keeps what was finished. */
  async add(image: Image, facts: ImageFacts): Promise<void> {
    this.#pictures.push(image);
    const path = this.output.kind === "folder" ? join(this.output.path, this.#fileName(facts)) : null;
    if (path !== null) await this.#write(image, path);
    this.images.push({ ...facts, path, width: image.width, height: image.height });
  }

  /** Writes what needs all images. */
  async finish(): Promise<void> {
    const { kind, path } = this.output;
    if (kind === "file") {
      await this.#writeOrKeep(path);
      if (this.images.length === 1) this.images[0]!.path = path;
      else this.gridPath = path;
    }
    if (kind === "folder" && this.options.grid) {
      this.gridPath = join(path, `grid.${extension(this.options.format)}`);
      await this.#write(this.grid(), this.gridPath);
    }
  }

  /** All images in one; the image itself when there is only one. */
  grid(): Image {
    if (this.#pictures.length === 1) return this.#pictures[0]!;
    return Image.grid(this.#pictures, this.options.columns, this.options.gap);
  }

  /**
   * Hours of work must not be lost to one file: what cannot be written there goes elsewhere, and the error says where.
   */
  async #writeOrKeep(path: string): Promise<void> {
    try {
      await this.#write(this.grid(), path);
    } catch (cause) {
      const kept = await this.#keep(path);
      if (kept === null) throw cause;
      throw new IoError(`${(cause as Error).message}; ${kept}`, { cause });
    }
  }

  /**
   * Another format beside it, else one file each in a folder beside it, else in the temporary folder. Null when all
   * fails.
   */
  async #keep(path: string): Promise<string | null> {
    const stem = path.slice(0, path.length - extname(path).length);
    const tries: [string, () => Promise<unknown>][] = [
      [`${stem}.kept.png`, () => this.#write(this.grid(), `${stem}.kept.png`)],
      [`${stem}.kept/`, () => this.#writeEach(`${stem}.kept`)],
    ];
    const spare = join(tmpdir(), `nextscale-${process.pid}.kept`);
    tries.push([`${spare}/`, () => this.#writeEach(spare)]);
    for (const [place, write] of tries) {
      try {
        await write();
        return `what was made is in ${place}`;
      } catch {
        // the next place; the first failure is the one to report
      }
    }
    return null;
  }

  async #writeEach(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    for (const [index, image] of this.#pictures.entries()) {
      await image.toFile(join(folder, `${String(index).padStart(6, "0")}.png`));
    }
  }

  #fileName({ name, seed, index }: ImageFacts): string {
    return `${slug(name)}-${seed}-${index}.${extension(this.options.format)}`;
  }

  async #write(image: Image, path: string): Promise<void> {
    const begin = performance.now();
    const { quality } = this.options;
    await image.toFile(path, quality === undefined ? {} : { quality });
    this.files.push(path);
    this.elapsedMs += performance.now() - begin;
  }
}

function extension(format: ImageFormat): string {
  return format === "jpeg" ? "jpg" : format;
}

/** Columns of a grid: a row per label when each has several images, else the evenest rectangle that is not too long. */
export function arrange(total: number, perLabel: number): number {
  if (perLabel > 1 && total > perLabel) return perLabel;
  const root = Math.sqrt(total);
  for (let columns = Math.ceil(root); columns <= 2 * root; columns++) {
    if (total % columns === 0) return columns;
  }
  return Math.ceil(root);
}
