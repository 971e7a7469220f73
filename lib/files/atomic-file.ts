/** Files that are there completely or not at all: written beside their place, then renamed into it. */

import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ioError } from "./io-error.js";

/** The part of node:fs/promises that writes; tests hand in one that fails. */
export type Files = Pick<typeof fs, "open" | "rename" | "rm">;

/** A name beside `path` that nothing else uses; on the same file system, so that a rename is atomic. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
}

/** A temporary name of ours: what it is for, and the process that made it. */
const TEMPORARY = /^\..+\.(\d+)-[0-9a-f]{8}\.tmp$/s;

/** A writer changes its file all the time; only syncing a huge one to a slow disk may take minutes. */
const STALE_MS = 10 * 60_000;
/** When its process is gone, or is that of another machine which shares the folder. */
const ORPHANED_MS = 60_000;

/**
 * Removes what killed processes and terminated worker threads have left in a folder: temporary files of ours, by name,
 * that nobody has written to for a while. Never throws: this is a courtesy.
 */
export async function sweepStale(folder: string, now = Date.now()): Promise<void> {
  const names = await fs.readdir(folder).catch(() => []);
  for (const name of names) {
    const pid = TEMPORARY.exec(name)?.[1];
    if (pid === undefined) continue;
    const path = join(folder, name);
    const stats = await fs.stat(path).catch(() => null);
    if (stats === null || !stats.isFile()) continue;
    const patience = isAlive(Number(pid)) ? STALE_MS : ORPHANED_MS;
    if (now - stats.mtimeMs > patience) await fs.rm(path, { force: true }).catch(() => undefined);
  }
}

/** Whether a process of this number runs on this machine. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // asks, and sends nothing
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

const swept = new Set<string>();

/** Writes or replaces `path`. Whatever fails, no half of it is left. Throws an IoError. */
export async function writeAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path);
  if (!swept.has(folder)) {
    swept.add(folder); // once: a folder of fifty thousand pictures is not listed for each of them
    await sweepStale(folder);
  }
  await replace(path, (file) => file.writeFile(bytes), fs);
}

/**
 * Writes or replaces `path` with what `write` puts into the file, and brings it to the disk before the rename: whatever
 * fails and whenever the process is killed, what was there before stays, or the new file is whole. Throws what `write`
 * throws, or an IoError.
 */
export async function replaceFile<T>(
  path: string,
  write: (file: fs.FileHandle) => Promise<T>,
  files: Files = fs,
): Promise<T> {
  await sweepStale(dirname(path));
  const result = await replace(
    path,
    async (file) => {
      const written = await write(file);
      await file.sync();
      return written;
    },
    files,
  );
  await syncFolder(dirname(path));
  return result;
}

async function replace<T>(path: string, write: (file: fs.FileHandle) => Promise<T>, files: Files): Promise<T> {
  const temporary = temporaryName(path);
  try {
    const file = await files.open(temporary, "wx");
    let result: T;
    try {
      result = await write(file);
    } finally {
      await file.close();
    }
    await files.rename(temporary, path);
    return result;
  } catch (error) {
    await files.rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
    throw ioError("cannot write", path, error);
  }
}

/** Makes a rename survive a power cut, where the system lets a folder be synced. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await fs.open(path, "r");
    await folder.sync().finally(() => folder.close());
  } catch {
    // Windows refuses; the file itself is safe
  }
}

/** All of `bytes`, from `at` on; without `at` behind what was written before. */
export async function writeAll(file: fs.FileHandle, bytes: Uint8Array, at?: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const position = at === undefined ? null : at + done;
    done += (await file.write(bytes, done, bytes.length - done, position)).bytesWritten;
  }
}
