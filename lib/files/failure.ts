/** Whose fault is a failure: the system's, which may be over in a moment, or that of what was read? */

import { IoError, type NextscaleError, OutOfMemoryError } from "../errors.js";

/**
 * Codes that say nothing about a file's content: no memory, no handle, no thread, no permission, no room, a broken
 * disk.
 */
const SYSTEM_CODES = new Set([
  ...["EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EACCES", "EPERM", "EBUSY", "EIO", "EINTR", "ENOSPC", "EDQUOT", "EROFS"],
  ...["ENODEV", "ENXIO", "ENOTCONN", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENOLCK", "EDEADLK", "EFBIG"],
  ...["ERR_ACCESS_DENIED", "ERR_WORKER_OUT_OF_MEMORY", "ERR_MEMORY_ALLOCATION_FAILED"],
]);

const MEMORY = /out of memory|insufficient memory|not enough memory|cannot allocate|allocation failed|\bENOMEM\b/i;
const SYSTEM =
  /unable to (create|start|spawn).{0,12}thread|error creating thread|thread.{0,20}(fail|unavailable)|temporarily unavailable|too many open files|no space left|permission denied|operation not permitted|input\/output error|stale (nfs )?file handle|disk quota/i;

/**
 * The typed error of a failure that the system is to blame for, or null when it may be the content's fault. Codecs tell
 * what happened to them in words only, so their texts count as well.
 *
 * @param doing such as `cannot read a/1.png`
 */
export function systemFailure(error: unknown, doing: string): NextscaleError | null {
  const { code, message } = error as NodeJS.ErrnoException;
  const text = `${doing}: ${String(message).trim()}`;
  if (code === "ENOMEM" || MEMORY.test(message)) return new OutOfMemoryError(text, { cause: error });
  if (SYSTEM_CODES.has(code ?? "") || SYSTEM.test(message)) return new IoError(text, { cause: error });
  return null;
}
