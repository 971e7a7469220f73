/** A recorded file that no test opens proves nothing: each one in test/golden is named by a test beside its folder. */

import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..");

function walk(start: string): string[] {
  return readdirSync(start, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function unnamed(files: string[], sources: string[]): string[] {
  return files.filter((path) => {
    const [file, group] = [basename(path), basename(dirname(path))];
    const named = (word: string) => sources.some((text) => text.includes(`"${word}"`) || text.includes(`/${word}"`));
    return !named(file) || !named(group);
  });
}

const golden = walk(join(folder, "golden")).filter((path) => !path.endsWith(".md"));
const sources = walk(folder)
  .filter((path) => /\.(ts|mjs|cc)$/.test(path) && !path.includes("/meta/"))
  .map((path) => readFileSync(path, "utf8"));

test("every golden file is named by a test", () => {
  expect(golden.length).toBeGreaterThan(10);
  expect(unnamed(golden, sources)).toEqual([]);
});

test("a planted file would be found", () => {
  expect(unnamed(["/x/tiny/no-test-opens-this.pth", "/x/no-such-group/var.pth"], sources).length).toBe(2);
});
