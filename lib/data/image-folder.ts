/** A folder of images by class: one sub-folder per class, its files at any depth below it. */

import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { InvalidOptionError, IoError } from "../errors.js";
import { joinPlace, nameOf, type Place, shownName } from "../files/place.js";

/** A file that may be an image; only reading it will tell. */
export interface SourceFile {
  /** Relative to the root, with `/`; bytes that are no UTF-8 are escaped. */
  path: string;
  /** Where it really is. */
  place: Place;
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

/** An entry of a folder. */
interface Found {
  name: Place;
  /** Text for people, and the key of the order. */
  shown: string;
  entry: Dirent;
}

/**
 * Lists classes and files. Links are followed.
 *
 * @throws IoError when a folder cannot be read, InvalidOptionError when there is no class or a class has no file
 */
export async function scanImageFolder(root: string, maxPerClass: number): Promise<ImageFolder> {
  const classes: { name: Place; shown: string }[] = [];
  const strayFiles: string[] = [];
  for (const found of await list(root, "images")) {
    if ((await kindOf(root, found)) === "folder") classes.push(found);
    else strayFiles.push(found.shown);
  }
  if (classes.length === 0) {
    const found = strayFiles.length > 0 ? `${strayFiles.length} files and no sub-folder` : "nothing";
    throw new InvalidOptionError("images", `${found} in ${root}`, "a folder with one sub-folder of images per class");
  }
  const files: SourceFile[] = [];
  for (const [label, { name, shown }] of classes.entries()) {
    const found = await walk(joinPlace(root, name), shown, 1);
    const wanted = found.sort((a, b) => byCodeUnit(a.path, b.path)).slice(0, maxPerClass);
    if (wanted.length === 0) {
      const folder = shownName(joinPlace(root, name));
      throw new InvalidOptionError("images", `no file in ${folder}`, "at least one image in every class");
    }
    files.push(...(await measure(wanted, label)));
  }
  return { classes: classes.map(({ shown }) => shown), files, strayFiles };
}

/** Entries that are not clutter, sorted. */
async function list(path: Place, option?: string): Promise<Found[]> {
  try {
    const entries = (await readdir(path, { withFileTypes: true, encoding: "buffer" })) as unknown as Dirent[];
    return entries
      .map((entry) => {
        const name = nameOf(entry.name as unknown as Buffer);
        return { entry, name, shown: shownName(name) };
      })
      .filter(({ shown }) => !shown.startsWith(".") && !CLUTTER.has(shown.toLowerCase()))
      .sort((a, b) => byCodeUnit(a.shown, b.shown));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const shown = shownName(path);
    if (option !== undefined && (code === "ENOENT" || code === "ENOTDIR")) {
      const found = code === "ENOENT" ? `${shown}, which does not exist` : `${shown}, which is a file`;
      throw new InvalidOptionError(option, found, "a folder with one sub-folder of images per class", { cause });
    }
    throw new IoError(`cannot read the folder ${shown}: ${message}`, { cause });
  }
}

/** All files below a folder. @param path of the folder, relative to the root */
async function walk(folder: Place, path: string, depth: number): Promise<Pick<SourceFile, "path" | "place">[]> {
  if (depth > MAX_DEPTH) {
    const found = `folders nested more than ${MAX_DEPTH} deep at ${shownName(folder)}`;
    throw new InvalidOptionError("images", found, "a folder without circles of links");
  }
  const files: Pick<SourceFile, "path" | "place">[] = [];
  for (const found of await list(folder)) {
    const inner = { path: `${path}/${found.shown}`, place: joinPlace(folder, found.name) };
    if ((await kindOf(folder, found)) === "file") files.push(inner);
    else files.push(...(await walk(inner.place, inner.path, depth + 1)));
  }
  return files;
}

/** A link is what it leads to; one that leads nowhere counts as a file, which will be listed as unreadable. */
async function kindOf(folder: Place, { entry, name }: Found): Promise<"file" | "folder"> {
  if (entry.isDirectory()) return "folder";
  if (!entry.isSymbolicLink()) return "file";
  const target = await statOf(joinPlace(folder, name));
  return target?.isDirectory() ? "folder" : "file";
}

/** null for a link that leads nowhere. Whatever else keeps a file from being looked at is no property of the file. */
async function statOf(place: Place) {
  try {
    return await stat(place);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ELOOP") return null;
    throw new IoError(`cannot read ${shownName(place)}: ${message}`, { cause });
  }
}

async function measure(found: Pick<SourceFile, "path" | "place">[], label: number): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  for (let start = 0; start < found.length; start += CONCURRENCY) {
    const part = found.slice(start, start + CONCURRENCY).map(async ({ path, place }) => {
      const stats = await statOf(place); // a dead link: reading it will say why
      return { path, place, label, bytes: stats?.size ?? 0, mtimeMs: Math.round(stats?.mtimeMs ?? 0) };
    });
    files.push(...(await Promise.all(part)));
  }
  return files;
}

/** The same order in every locale. */
function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
