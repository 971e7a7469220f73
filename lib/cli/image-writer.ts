/** Images of a run -> one file, a grid, or a folder of files. */

import { join } from "node:path";
import { type EncodeOptions, Image, type ImageFormat } from "../image/image.js";
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
      await this.#write(this.grid(), path);
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
