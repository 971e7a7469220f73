/** What a file system refuses, in words. */

import { isError } from "../base/kinds.js";
import { IoError, OutOfMemoryError } from "../errors.js";

/** An IoError that names the path and the system's reason; errors of nextscale pass unchanged. */
export function ioError(what: string, path: string, error: unknown): Error {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (!isError(error) || typeof code !== "string") return error as Error;
  if (!("syscall" in error) && !NODE_CODES.test(code)) return error;
  if (code === "ENOMEM") return new OutOfMemoryError(`${what} ${path}: ${error.message}`, { cause: error });
  return new IoError(`${what} ${path}: ${REASONS[code] ?? error.message}`, { cause: error });
}

/** What Node itself refuses: the permission model, a zero byte in a path, a file that is too large for one piece. */
const NODE_CODES = /^ERR_(ACCESS_DENIED|INVALID_ARG_VALUE|FS_\w+)$/;

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
