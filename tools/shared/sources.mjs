// The sources of the checkout, by the ending of their names.

import { existsSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { root } from "./run.mjs";

const FOLDERS = ["lib", "native", "test", "bench", "tools", "examples"];

export const CPP = /\.(h|cc|cu|cuh)$/;
export const SCRIPTS = /\.(ts|mjs|cjs)$/;

/** Paths relative to the checkout, sorted. */
export function sources(...endings) {
  return FOLDERS.filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && endings.some((ending) => ending.test(entry.name)))
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))
    .filter((path) => !path.includes("node_modules"))
    .sort();
}
