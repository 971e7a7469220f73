/**
 * Is a picture bad, or is the system out of something? Only what is proven bad may be recorded as that: the file is
 * tried again, and a picture that is known to be good is decoded the same way.
 */

import { lstat } from "node:fs/promises";
import { InternalError, IoError, NextscaleError } from "../errors.js";
import { systemFailure } from "../files/failure.js";
import type { Place } from "../files/place.js";
import { loadSharp } from "../image/image.js";

/** Side of the picture that must work: large enough for the codec to want its threads. */
const CONTROL_SIDE = 256;

export class Verdicts {
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * What becomes of a file that could not be read: the result after all, or the reason why it is bad, in the codec's
   * words.
   *
   * @param again the same once more; one file at a time
   * @throws IoError, OutOfMemoryError when the system has failed: a later run tries the file again
   */
  async judge<T>(
    file: { path: string; place: Place },
    first: unknown,
    again: () => Promise<T>,
  ): Promise<{ good: T } | { bad: string }> {
    const turn = this.#turn.then(() => this.#judge(file, first, again));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #judge<T>({ path, place }: { path: string; place: Place }, first: unknown, again: () => Promise<T>) {
    blameSystem(first, path);
    if ((first as NodeJS.ErrnoException).code === "ENOENT") return { bad: await reasonOfAbsence(path, place, first) };
    try {
      return { good: await again() };
    } catch (second) {
      blameSystem(second, path);
      await requireWorkingCodec(path, second);
      return { bad: reasonOf(second) };
    }
  }
}

/** Errors of ours pass, too: without sharp no file will be better. */
function blameSystem(error: unknown, path: string): void {
  if (error instanceof NextscaleError) throw error;
  const failure = systemFailure(error, `cannot read ${path}`);
  if (failure !== null) throw failure;
}

/** A file that the scan has seen and that is gone is no bad picture. */
async function reasonOfAbsence(path: string, place: Place, cause: unknown): Promise<string> {
  const stats = await lstat(place).catch(() => null);
  if (stats?.isSymbolicLink()) return "a link that leads nowhere";
  throw new IoError(`cannot read ${path}: it was there when the folder was listed, and is gone`, { cause });
}

/** Encodes and decodes a picture of our own: where this fails, no file can be blamed. */
async function requireWorkingCodec(path: string, second: unknown): Promise<void> {
  try {
    const sharp = await loadSharp();
    const side = CONTROL_SIDE;
    const create = { width: side, height: side, channels: 3 as const, background: { r: 10, g: 20, b: 30 } };
    const png = await sharp({ create }).png().toBuffer();
    const pixels = await sharp(png)
      .resize(side / 2, side / 2)
      .raw()
      .toBuffer();
    if (pixels[0] === 10) return;
    throw new Error("a picture that was just made came back as another one");
  } catch (error) {
    const doing = `cannot read ${path} (${reasonOf(second)}), nor a picture that is known to be good`;
    throw systemFailure(error, doing) ?? new InternalError(`${doing}: ${reasonOf(error)}`, { cause: error });
  }
}

function reasonOf(error: unknown): string {
  return (error as Error).message.trim().replace(/\s+/g, " ") || "unreadable";
}
