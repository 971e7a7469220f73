/** What a file system refuses, in words. */

import { IoError } from "../errors.js";

/** An IoError that names the path and the system's reason; errors of nextscale pass unchanged. */
export function ioError(what: string, path: string, error: unknown): Error {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (!(error instanceof Error) || typeof code !== "string" || !("syscall" in error)) return error as Error;
  return new IoError(`${what} ${path}: ${REASONS[code] ?? error.message}`, { cause: error });
}

const REASONS: Record<string, string> = {
  ENOENT: "no such file or folder",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is not a folder",
  ENOSPC: "no space left on the device",
  EMFILE: "too many open files",
};
