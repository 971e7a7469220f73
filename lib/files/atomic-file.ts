/** Files that are there completely or not at all: written beside their place, then renamed into it. */

import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { IoError } from "../errors.js";

/** A name beside `path` that nothing else uses; on the same file system, so that a rename is atomic. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
}

/** Writes or replaces `path`. Whatever fails, no half of it is left. Throws an IoError. */
export async function writeAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = temporaryName(path);
  try {
    const file = await open(temporary, "wx");
    try {
      await file.writeFile(bytes);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
    throw new IoError(`cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}
