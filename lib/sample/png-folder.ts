/** One PNG file per image, all in one folder: what most suites for the Fréchet distance read. */

import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { IoError } from "../errors.js";
import type { Image } from "../image/image.js";
import { type SampleRecord, settle } from "./record.js";
import type { Sample } from "./work.js";

/** Where images go: knows what it has, takes what is missing, finishes when everything is there. */
export interface Sink {
  /** Makes the place ready and learns what is in it. @throws InvalidOptionError, IoError */
  prepare(record: SampleRecord, overwrite: boolean): Promise<void>;
  has(sample: Sample): boolean;
  /** Takes images in the order of their positions. */
  add(samples: readonly Sample[], images: readonly Image[]): Promise<void>;
  /** Keeps what `add` has taken, after the last image or an interruption. */
  flush(): Promise<void>;
  /** True when every image of every shard is in its place. */
  finish(): Promise<boolean>;
}

export const RECORD = "samples.json";

const isSample = (name: string) => /^\d+-\d{6,}\.png$/.test(name);

export class PngFolder implements Sink {
  readonly #files = new Set<string>();

  /**
   * @param digits of the class number in a file's name
   * @param shared with other shards, whose images may be on their way
   */
  constructor(
    readonly folder: string,
    readonly digits: number,
    readonly shared: boolean,
    readonly wanted: () => Iterable<Sample>,
  ) {}

  /** `07-000123.png`: class and number in the class. */
  nameOf({ classIndex, index }: Sample): string {
    return `${String(classIndex).padStart(this.digits, "0")}-${String(index).padStart(6, "0")}.png`;
  }

  async prepare(record: SampleRecord, overwrite: boolean): Promise<void> {
    try {
      await mkdir(this.folder, { recursive: true });
      if (overwrite) await this.#clear();
    } catch (cause) {
      throw new IoError(`cannot write into the folder ${this.folder}: ${(cause as Error).message}`, { cause });
    }
    for (const name of await readdir(this.folder)) this.#files.add(name);
    await settle(join(this.folder, RECORD), record, async () => this.shared || [...this.#files].some(isSample));
  }

  has(sample: Sample): boolean {
    return this.#files.has(this.nameOf(sample));
  }

  async add(samples: readonly Sample[], images: readonly Image[]): Promise<void> {
    await Promise.all(
      samples.map(async (sample, index) => {
        const name = this.nameOf(sample);
        await images[index]!.toFile(join(this.folder, name));
        this.#files.add(name);
      }),
    );
  }

  async flush(): Promise<void> {}

  async finish(): Promise<boolean> {
    for (const name of await readdir(this.folder)) this.#files.add(name); // other shards write here, too
    for (const sample of this.wanted()) if (!this.has(sample)) return false;
    return true;
  }

  async #clear(): Promise<void> {
    for (const name of await readdir(this.folder)) {
      if (name === RECORD || isSample(name)) await rm(join(this.folder, name), { force: true });
    }
  }
}
