/** Random access to the bytes of a file, within bounds. Readers never load a whole file. */

import { type FileHandle, open, stat } from "node:fs/promises";
import { AbortError, InvalidCheckpointError, IoError } from "../errors.js";
import { ioError } from "../files/io-error.js";

/** Where a reader gets its bytes: a file, or memory in tests. */
export interface ByteSource {
  /** Name for messages. */
  readonly path: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset`. A range outside the file is an InvalidCheckpointError. */
  read(offset: number, length: number): Promise<Buffer>;
}

export class FileSource implements ByteSource {
  private constructor(
    readonly path: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /** @throws IoError when there is no such regular file, or it may not be read */
  static async open(path: string): Promise<FileSource> {
    let handle: FileHandle | undefined;
    try {
      const { size } = requireFile(path, await stat(path)); // before opening: opening a pipe would wait for a writer
      handle = await open(path, "r");
      return new FileSource(path, size, handle);
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
      if (bytesRead === 0) throw new InvalidCheckpointError(`${this.path}: became shorter while it was read`);
      done += bytesRead;
    }
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

/** Opens every path, hands the files to `work`, closes them whatever happens. */
export async function withFiles<T>(paths: readonly string[], work: (files: FileSource[]) => Promise<T>): Promise<T> {
  const files: FileSource[] = [];
  try {
    for (const path of paths) files.push(await FileSource.open(path));
    return await work(files);
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

/** @throws AbortError whose cause is the signal's reason */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new AbortError(`${what} was cancelled`, { cause: signal.reason });
}

function requireFile<T extends { isFile(): boolean; isDirectory(): boolean }>(path: string, stats: T): T {
  if (stats.isDirectory()) throw new IoError(`cannot read ${path}: it is a folder, a checkpoint file was expected`);
  if (!stats.isFile()) throw new IoError(`cannot read ${path}: it is not a regular file`);
  return stats;
}

function requireRange(source: ByteSource, offset: number, length: number): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (valid && offset + length <= source.size) return;
  throw new InvalidCheckpointError(
    `${source.path}: bytes ${offset}..${offset + length} were expected, but the file ends at ${source.size}: truncated?`,
  );
}
