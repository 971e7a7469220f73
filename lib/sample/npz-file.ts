/**
 * All images in one `.npz`: `arr_0`, uint8 `[N, S, S, 3]`, and `arr_1`, int64 `[N]`, the classes; in an order drawn
 * from the seed, because the usual evaluators score splits of consecutive images as if each were a sample of all
 * classes. While images are missing, they lie beside it as raw parts; whichever run finds the last one in its place
 * puts the file together.
 */

import { mkdir, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { epochOrderInSlices } from "../data/order.js";
import { IoError } from "../errors.js";
import { replaceFile, writeAtomically } from "../files/atomic-file.js";
import type { Image } from "../image/image.js";
import { type NpzArray, writeNpz } from "./npz.js";
import type { Sink } from "./png-folder.js";
import { type SampleRecord, settle } from "./record.js";
import type { Sample, Work } from "./work.js";

/** Raw pixels of the images `[first, first + count)`. */
interface Part {
  path: string;
  first: number;
  count: number;
}

/** Images of a part at most: what an interruption can cost. */
const PART_IMAGES = 64;

/** What the file looks like. */
export interface NpzLayout {
  /** Of an image, in pixels. */
  side: number;
  /** Of the order in the file; null: class by class. */
  seed: bigint | null;
  /** With other shards, whose parts may be on their way. */
  shared: boolean;
}

/** `first-count.rgb` */
const PART = /^(\d+)-(\d+)\.rgb$/;

/** Bytes that are gathered at a time when the order is a random one. */
const GATHERED = 2 ** 26;

export class NpzFile implements Sink {
  #parts: Part[] = [];
  /** 1 for every image that lies in a part. */
  readonly #held: Uint8Array;
  #complete = false;
  #pending: Image[] = [];
  #pendingFirst = 0;

  constructor(
    readonly path: string,
    readonly work: Work,
    readonly layout: NpzLayout,
  ) {
    this.#held = new Uint8Array(work.total);
  }

  get #folder(): string {
    return `${this.path}.parts`;
  }

  get #recordPath(): string {
    return `${this.path}.json`;
  }

  async prepare(record: SampleRecord, overwrite: boolean): Promise<void> {
    if (overwrite) {
      for (const path of [this.#recordPath, this.path, this.#folder]) await rm(path, { recursive: true, force: true });
    }
    this.#complete = await isFile(this.path);
    await settle(this.#recordPath, record, () => this.#holdsImages());
    if (!this.#complete) await this.#scan();
  }

  async #holdsImages(): Promise<boolean> {
    if (this.#complete || this.layout.shared) return true;
    const names = await readdir(this.#folder).catch(() => []); // none, or scan will say what is wrong with it
    return names.some((name) => PART.test(name));
  }

  has({ position }: Sample): boolean {
    return this.#complete || this.#held[position] === 1;
  }

  async add(samples: readonly Sample[], images: readonly Image[]): Promise<void> {
    for (const [index, { position }] of samples.entries()) {
      const isNext = position === this.#pendingFirst + this.#pending.length;
      if (this.#pending.length === PART_IMAGES || (this.#pending.length > 0 && !isNext)) await this.flush();
      if (this.#pending.length === 0) this.#pendingFirst = position;
      this.#pending.push(images[index]!);
    }
  }

  async flush(): Promise<void> {
    const [images, first] = [this.#pending, this.#pendingFirst];
    if (images.length === 0) return;
    const path = join(this.#folder, `${first}-${images.length}.rgb`);
    await writeAtomically(
      path,
      Buffer.concat(images.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.length))),
    );
    this.#held.fill(1, first, first + images.length);
    this.#pending = [];
  }

  async finish(): Promise<boolean> {
    if (this.#complete) return true;
    await this.#scan(); // other shards write here, too
    const plan = this.#cover();
    if (plan === null) return false;
    await this.#assemble(plan);
    await rm(this.#folder, { recursive: true, force: true });
    return true;
  }

  async #scan(): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true });
      const parts: Part[] = [];
      for (const name of await readdir(this.#folder)) {
        const match = PART.exec(name);
        if (match === null) continue;
        const part = { path: join(this.#folder, name), first: Number(match[1]), count: Number(match[2]) };
        const { size } = await stat(part.path);
        if (size === part.count * this.#imageBytes) parts.push(part);
      }
      this.#parts = parts.sort((a, b) => a.first - b.first);
      for (const { first, count } of parts) this.#held.fill(1, first, first + count);
    } catch (cause) {
      throw new IoError(`cannot write into the folder ${this.#folder}: ${(cause as Error).message}`, { cause });
    }
  }

  get #imageBytes(): number {
    return this.layout.side * this.layout.side * 3;
  }

  /** Parts that hold every image, with the images to take of each; null while some are missing. They may overlap. */
  #cover(): { part: Part; from: number }[] | null {
    const plan: { part: Part; from: number }[] = [];
    let position = 0;
    for (const part of this.#parts) {
      if (part.first > position) return null;
      if (part.first + part.count <= position) continue;
      plan.push({ part, from: position });
      position = part.first + part.count;
    }
    return position >= this.work.total ? plan : null;
  }

  async #assemble(plan: { part: Part; from: number }[]): Promise<void> {
    const { work } = this;
    const { side, seed } = this.layout;
    const { total } = work;
    try {
      // A function of seed and number of images alone: whichever shard puts the file together.
      const order = seed === null ? null : await epochOrderInSlices(seed, 0, total);
      const classes = BigInt64Array.from({ length: total }, (_, place) =>
        BigInt(work.at(order?.[place] ?? place).classIndex),
      );
      const arrays: NpzArray[] = [
        {
          name: "arr_0",
          descr: "|u1",
          shape: [total, side, side, 3],
          bytes: total * this.#imageBytes,
          data: order === null ? this.#pixels(plan) : this.#gathered(plan, order),
        },
        { name: "arr_1", descr: "<i8", shape: [total], bytes: 8 * total, data: [new Uint8Array(classes.buffer)] },
      ];
      await replaceFile(this.path, (file) => writeNpz(file, arrays));
    } catch (cause) {
      if (await isFile(this.path)) return; // another shard was faster, and took the parts away
      throw cause instanceof IoError
        ? cause
        : new IoError(`cannot write ${this.path}: ${(cause as Error).message}`, { cause });
    }
  }

  async *#pixels(plan: { part: Part; from: number }[]): AsyncGenerator<Uint8Array> {
    let end = 0;
    for (const { part, from } of plan) {
      const bytes = await readFile(part.path);
      end = Math.min(part.first + part.count, this.work.total);
      yield bytes.subarray((from - part.first) * this.#imageBytes, (end - part.first) * this.#imageBytes);
    }
  }

  /** The image `order[i]` at place i: as many at a time as fit, from each part in turn, so that few files are open. */
  async *#gathered(plan: { part: Part; from: number }[], order: Uint32Array): AsyncGenerator<Uint8Array> {
    const size = this.#imageBytes;
    const atOnce = Math.max(1, Math.floor(GATHERED / size));
    for (let first = 0; first < order.length; first += atOnce) {
      const wanted = order.subarray(first, first + atOnce);
      const bytes = Buffer.allocUnsafe(wanted.length * size);
      for (const [part, places] of partsOf(plan, wanted)) {
        const file = await open(part.path, "r");
        try {
          for (const place of places) {
            const { bytesRead } = await file.read(bytes, place * size, size, (wanted[place]! - part.first) * size);
            if (bytesRead !== size) throw new Error(`${part.path} ends early`);
          }
        } finally {
          await file.close();
        }
      }
      yield bytes;
    }
  }
}

/** Which places of `positions` each part fills. `plan` covers all positions, ascending. */
function partsOf(plan: readonly { part: Part; from: number }[], positions: Uint32Array): Map<Part, number[]> {
  const places = new Map<Part, number[]>();
  for (const [place, position] of positions.entries()) {
    let [low, high] = [0, plan.length - 1]; // the last entry that begins at or before the position
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (plan[middle]!.from <= position) low = middle;
      else high = middle - 1;
    }
    const { part } = plan[low]!;
    const list = places.get(part);
    if (list === undefined) places.set(part, [place]);
    else list.push(place);
  }
  return places;
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}
