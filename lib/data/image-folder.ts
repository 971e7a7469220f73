/** A folder of images by class: one sub-folder per class, its files at any depth below it. */

import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { InvalidOptionError, IoError } from "../errors.js";

/** A file that may be an image; only reading it will tell. */
export interface SourceFile {
  /** Relative to the root, with `/`. */
  path: string;
  label: number;
  bytes: number;
  mtimeMs: number;
}

export interface ImageFolder {
  /** Names of the sub-folders, sorted by code unit: the label of a class is its place here. */
  classes: string[];
  /** By class, then by path. */
  files: SourceFile[];
  /** Files beside the class folders, which belong to no class. */
  strayFiles: string[];
}

/** What file managers leave behind; names that begin with a dot are left out, too. */
const CLUTTER = new Set(["thumbs.db", "desktop.ini"]);

/** Links may lead in circles. */
const MAX_DEPTH = 32;

/** Stats in flight. */
const CONCURRENCY = 64;

/**
 * Lists classes and files. Links are followed.
 *
 * @throws IoError when a folder cannot be read, InvalidOptionError when there is no class or a class has no file
 */
export async function scanImageFolder(root: string, maxPerClass: number): Promise<ImageFolder> {
  const entries = await list(root, "images");
  const classes: string[] = [];
  const strayFiles: string[] = [];
  for (const entry of entries) {
    if ((await kindOf(root, entry)) === "folder") classes.push(entry.name);
    else strayFiles.push(entry.name);
  }
  if (classes.length === 0) {
    const found = strayFiles.length > 0 ? `${strayFiles.length} files and no sub-folder` : "nothing";
    throw new InvalidOptionError("images", `${found} in ${root}`, "a folder with one sub-folder of images per class");
  }
  const files: SourceFile[] = [];
  for (const [label, name] of classes.entries()) {
    const paths = (await walk(root, name, 1)).sort(byCodeUnit).slice(0, maxPerClass);
    if (paths.length === 0) {
      throw new InvalidOptionError("images", `no file in ${join(root, name)}`, "at least one image in every class");
    }
    files.push(...(await measure(root, paths, label)));
  }
  return { classes, files, strayFiles };
}

/** Entries that are not clutter, sorted. */
async function list(path: string, option?: string): Promise<Dirent[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter(({ name }) => !name.startsWith(".") && !CLUTTER.has(name.toLowerCase()))
      .sort((a, b) => byCodeUnit(a.name, b.name));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (option !== undefined && (code === "ENOENT" || code === "ENOTDIR")) {
      const found = code === "ENOENT" ? `${path}, which does not exist` : `${path}, which is a file`;
      throw new InvalidOptionError(option, found, "a folder with one sub-folder of images per class", { cause });
    }
    throw new IoError(`cannot read the folder ${path}: ${message}`, { cause });
  }
}

/** Paths of all files below `path`, relative to the root. */
async function walk(root: string, path: string, depth: number): Promise<string[]> {
  if (depth > MAX_DEPTH) {
    const found = `folders nested more than ${MAX_DEPTH} deep at ${join(root, path)}`;
    throw new InvalidOptionError("images", found, "a folder without circles of links");
  }
  const paths: string[] = [];
  for (const entry of await list(join(root, path))) {
    const inner = `${path}/${entry.name}`;
    if ((await kindOf(join(root, path), entry)) === "file") paths.push(inner);
    else paths.push(...(await walk(root, inner, depth + 1)));
  }
  return paths;
}

/** A link is what it leads to; one that leads nowhere counts as a file, which will be listed as unreadable. */
async function kindOf(folder: string, entry: Dirent): Promise<"file" | "folder"> {
  if (entry.isDirectory()) return "folder";
  if (!entry.isSymbolicLink()) return "file";
  const target = await stat(join(folder, entry.name)).catch(() => null);
  return target?.isDirectory() ? "folder" : "file";
}

async function measure(root: string, paths: string[], label: number): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  for (let start = 0; start < paths.length; start += CONCURRENCY) {
    const part = paths.slice(start, start + CONCURRENCY).map(async (path) => {
      const stats = await stat(join(root, path)).catch(() => null); // a dead link: reading it will say why
      return { path, label, bytes: stats?.size ?? 0, mtimeMs: Math.round(stats?.mtimeMs ?? 0) };
    });
    files.push(...(await Promise.all(part)));
  }
  return files;
}

/** The same order in every locale. */
function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
