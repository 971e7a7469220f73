/** The built package as its users get it: both module systems, types, files. */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const require = createRequire(join(root, "package.json"));

test("import and require give the same names", async () => {
  const esm = Object.keys(await import(join(root, manifest.exports["."].import.default)));
  const cjs = Object.keys(require("nextscale")).filter((name) => name !== "__esModule");
  expect(esm).toContain("loadModel");
  expect(cjs.sort()).toEqual(esm.filter((name) => name !== "default").sort());
});

test("a CommonJS program reaches the addon", () => {
  const script = "console.log(JSON.stringify(require('nextscale').describeBinding()))";
  const output = execFileSync(process.execPath, ["-e", script], { cwd: root, encoding: "utf8" });
  expect(JSON.parse(output)).toMatchObject({
    path: expect.stringMatching(/nextscale.*\.node$/),
    version: manifest.version,
  });
});

test("every path of the manifest exists after a build", () => {
  const { import: esm, require: cjs } = manifest.exports["."];
  for (const path of [
    ...Object.values(esm),
    ...Object.values(cjs),
    manifest.main,
    manifest.types,
    ...Object.values(manifest.bin),
  ]) {
    expect(existsSync(join(root, path as string)), path as string).toBe(true);
  }
});

test("nothing runs at install", () => {
  for (const script of ["preinstall", "install", "postinstall"]) expect(manifest.scripts[script]).toBeUndefined();
  expect(manifest.gypfile).toBe(false);
});

test("what is packed holds the build and the bundled model, and no sources or tests", () => {
  const output = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const files: string[] = JSON.parse(output)[0].files.map(({ path }: { path: string }) => path);
  for (const path of [
    "dist/index.js",
    "dist/index.cjs",
    "dist/index.d.ts",
    "dist/cli.js",
    "models/digits.safetensors",
  ]) {
    expect(files).toContain(path);
  }
  expect(files.filter((path) => /^(lib|native|test|node_modules|build)\//.test(path))).toEqual([]);
});

describe("what is tracked", () => {
  const tracked = existsSync(join(root, ".git"))
    ? execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean)
    : [];
  const present = tracked.filter((path) => existsSync(join(root, path)));
  /**
   * Folders of the machines that this is developed on, and hosts that packages come from; put together, so as not to
   * find this file.
   */
  const FOREIGN = [
    ["/wo", "rk/"],
    ["/tm", "p/"],
    ["/ro", "ot/"],
    ["/ho", "me/(?!me/app/)"],
    ["registry\\.", "npmjs"],
    ["deb\\.", "debian\\.org"],
    ["nodesource", "\\.com"],
    ["pypi\\.", "org"],
  ].map((parts) => new RegExp(`(?<![\\w.}/$-])${parts.join("")}`));

  function mentions(path: string): string[] {
    const bytes = readFileSync(join(root, path));
    if (bytes.includes(0)) return []; // no text
    const lines = bytes.toString("utf8").split("\n");
    return lines.flatMap((line, i) => (FOREIGN.some((name) => name.test(line)) ? [`${path}:${i + 1}: ${line}`] : []));
  }

  test.skipIf(tracked.length === 0)("no file names a machine's folders or a registry's host", () => {
    expect(present.length).toBeGreaterThan(100);
    expect(present.flatMap(mentions)).toEqual([]);
  });

  test.skipIf(tracked.length === 0)("all files together stay below 60 MB, and nothing generated is among them", () => {
    const bytes = present.reduce((sum, path) => sum + statSync(join(root, path)).size, 0);
    expect(bytes).toBeLessThan(60e6);
    expect(
      tracked.filter((path) => /^(dist|build|coverage|node_modules|docs\/api)\/|\.(node|so|o|tgz|log)$/.test(path)),
    ).toEqual([]);
  });
});
