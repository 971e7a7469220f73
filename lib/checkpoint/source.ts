/** Random access to the bytes of a file, within bounds. Readers never load a whole file. */

import type { BigIntStats, Stats } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { AbortError, InvalidCheckpointError, IoError } from "../errors.js";
import { ioError } from "../files/io-error.js";
import type { FileStamp } from "../native/contract.js";

/** Where a reader gets its bytes: a file, or memory in tests. */
export interface ByteSource {
  /** Name for messages. */
  readonly path: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset`. A range outside the file is an InvalidCheckpointError. */
  read(offset: number, length: number): Promise<Buffer>;
}

export class FileSource implements ByteSource {
  readonly path: string;
  readonly size: number;

  private constructor(
    /** What the file was when it was opened. */
    readonly stamp: FileStamp,
    private readonly handle: FileHandle,
  ) {
    this.path = stamp.path;
    this.size = stamp.bytes;
  }

  /**
   * @param expected what the file was when its header was read; it must still be that
   * @throws IoError when there is no such regular file, it may not be read, or it is not the expected one
   */
  static async open(path: string, expected?: FileStamp): Promise<FileSource> {
    let handle: FileHandle | undefined;
    try {
      await requireFile(path, await stat(path)); // before opening: opening a pipe would wait for a writer
      handle = await open(path, "r");
      const stamp = stampOf(path, await handle.stat({ bigint: true }));
      if (expected !== undefined) requireSame(expected, stamp);
      return new FileSource(stamp, handle);
    } catch (error) {
      await handle?.close();
      throw ioError("cannot read", path, error);
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    requireRange(this, offset, length);
    const bytes = Buffer.allocUnsafe(length);
    await this.readInto(bytes, offset);
    return bytes;
  }

  /** Fills `target` from `offset` on. */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    requireRange(this, offset, target.byteLength);
    let done = 0;
    while (done < target.byteLength) {
      const { bytesRead } = await this.tryRead(target, done, offset + done);
      if (bytesRead === 0) throw new IoError(`${this.path} became shorter while it was read`);
      done += bytesRead;
    }
  }

  /** @throws IoError when the file's size or time are not what they were at opening */
  async requireUnchanged(): Promise<void> {
    let now: FileStamp;
    try {
      now = stampOf(this.path, await this.handle.stat({ bigint: true }));
    } catch (error) {
      throw ioError("cannot read", this.path, error);
    }
    requireSame(this.stamp, now);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private async tryRead(target: Uint8Array, at: number, position: number): Promise<{ bytesRead: number }> {
    try {
      return await this.handle.read(target, at, target.byteLength - at, position);
    } catch (error) {
      throw ioError("cannot read", this.path, error);
    }
  }
}

/**
 * Opens every path, hands the files to `work`, closes them whatever happens. When a file changed meanwhile, what came
 * of the work is worth nothing, be it a result or an error: the IoError that says so comes instead.
 *
 * @param stamps what some of the files were when their headers were read
 */
export async function withFiles<T>(
  paths: readonly string[],
  work: (files: FileSource[]) => Promise<T>,
  stamps: readonly FileStamp[] = [],
): Promise<T> {
  const files: FileSource[] = [];
  const requireUnchanged = async () => {
    for (const file of files) await file.requireUnchanged();
  };
  try {
    for (const path of paths)
      files.push(
        await FileSource.open(
          path,
          stamps.find((stamp) => stamp.path === path),
        ),
      );
    const result = await work(files);
    await requireUnchanged();
    return result;
  } catch (error) {
    await requireUnchanged();
    throw error;
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

function stampOf(path: string, { size, mtimeNs }: BigIntStats): FileStamp {
  // As the system counts: downwards.
  const seconds = mtimeNs / 1_000_000_000n - (mtimeNs % 1_000_000_000n < 0n ? 1n : 0n);
  return {
    path,
    bytes: Number(size),
    seconds: Number(seconds),
    nanoseconds: Number(mtimeNs - seconds * 1_000_000_000n),
  };
}

function requireSame(before: FileStamp, now: FileStamp): void {
  const resized = before.bytes !== now.bytes;
  if (!resized && before.seconds === now.seconds && before.nanoseconds === now.nanoseconds) return;
  const what = resized ? `it has ${now.bytes} bytes, it had ${before.bytes}` : "it was written to";
  throw new IoError(`${now.path} changed while it was read: ${what}`);
}

/** @throws AbortError whose cause is the signal's reason */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new AbortError(`${what} was cancelled`, { cause: signal.reason });
}

async function requireFile(path: string, stats: Stats): Promise<void> {
  if (stats.isDirectory()) {
    const hint = hintOfFolder(await readdir(path).catch(() => []));
    throw new IoError(`cannot read ${path}: it is a folder, a checkpoint file was expected${hint}`);
  }
  if (!stats.isFile()) throw new IoError(`cannot read ${path}: it is not a regular file`);
}

/** Some ways of saving make folders; what lies in one tells which file is meant, or what to make one with. */
function hintOfFolder(names: readonly string[]): string {
  const find = (pattern: RegExp) => names.find((name) => pattern.test(name));
  if (find(/\.distcp$/) !== undefined) {
    return ". It is a distributed checkpoint (torch.distributed.checkpoint): python -m torch.distributed.checkpoint.format_utils dcp_to_torch makes one file of it";
  }
  if (find(/^(latest|global_step\d+|.*_(model|optim)_states\.pt)$/) !== undefined) {
    return ". It is a checkpoint of DeepSpeed: zero_to_fp32.py makes one file of it";
  }
  const file = find(/\.index\.json$/) ?? find(/\.safetensors$/) ?? find(/\.(pth|pt|ckpt|bin)$/);
  return file === undefined ? "" : `, such as its ${file}`;
}

function requireRange(source: ByteSource, offset: number, length: number): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (valid && offset + length <= source.size) return;
  throw new InvalidCheckpointError(
    `${source.path}: bytes ${offset}..${offset + length} were expected, but the file ends at ${source.size}: truncated?`,
  );
}
