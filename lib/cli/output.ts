/** Where images go. Refuses a place that cannot be written before anything is computed. */

import { mkdir, open, rm, rmdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { InvalidOptionError, IoError } from "../errors.js";
import { temporaryName } from "../files/atomic-file.js";
import { formatOf } from "../image/image.js";

export interface Output {
  kind: "none" | "file" | "folder";
  path: string;
  /** Takes back folders that were made for nothing. Never throws. */
  abandon(): Promise<void>;
}

/** `null` writes nothing; a trailing slash or an existing folder means a folder, which is made when it is missing. */
export async function prepareOutput(path: string | null): Promise<Output> {
  if (path === null) return { kind: "none", path: "", abandon: async () => undefined };
  if (/[/\\]$/.test(path) || (await isFolder(path))) return prepareFolder(path);
  if (formatOf(path) === null) {
    const expected = `a name that ends in .png, .jpg, .jpeg or .webp, or a folder ("${path}/")`;
    throw new InvalidOptionError("output", JSON.stringify(path), expected);
  }
  await proveWritable(path);
  return { kind: "file", path, abandon: async () => undefined };
}

async function prepareFolder(path: string): Promise<Output> {
  const folder = resolve(path);
  let first: string | undefined; // outermost folder that did not exist
  try {
    first = await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new IoError(`cannot make the folder ${path}: ${(cause as Error).message}`, { cause });
  }
  const abandon = async () => {
    if (first === undefined) return;
    for (let inner = folder; inner.length >= first.length; inner = dirname(inner)) {
      if (
        !(await rmdir(inner).then(
          () => true,
          () => false,
        ))
      )
        return; // it holds something
    }
  };
  await proveWritable(resolve(folder, "image.png"));
  return { kind: "folder", path, abandon };
}

/** Makes and removes a file beside `path`: permission bits alone do not tell (root, read-only mounts, quotas). */
export async function proveWritable(path: string): Promise<void> {
  const probe = temporaryName(resolve(path));
  try {
    await (await open(probe, "wx")).close();
    await rm(probe);
  } catch (cause) {
    throw new IoError(`cannot write ${path}: ${reason(cause as NodeJS.ErrnoException, path)}`, { cause });
  }
  if (await isFolder(path)) throw new IoError(`cannot write ${path}: it is a folder`);
}

function reason(cause: NodeJS.ErrnoException, path: string): string {
  const folder = dirname(resolve(path));
  switch (cause.code) {
    case "ENOENT":
      return `the folder ${folder} does not exist`;
    case "ENOTDIR":
      return `${folder} is not a folder`;
    case "EACCES":
    case "EPERM":
      return `no permission to write into ${folder}`;
    case "EROFS":
      return `${folder} is on a read-only file system`;
    default:
      return cause.message;
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
