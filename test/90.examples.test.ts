/** Every program of examples/ runs to its end in an empty folder, and leaves the files that it says. */

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { expect, test } from "vitest";
import { scratchFolder } from "./support/cli.js";

const folder = join(import.meta.dirname, "..", "examples");
const programs = readdirSync(folder).filter((name) => name.endsWith(".mjs"));

interface Outcome {
  stdout: string;
  stderr: string;
  files: string[];
  folder: string;
}

async function runExample(name: string): Promise<Outcome> {
  const cwd = scratchFolder();
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(folder, name)], { cwd });
  return { stdout, stderr, files: readdirSync(cwd).sort(), folder: cwd };
}

/** What each has to show for itself. A program without an entry fails. */
const EXPECTED: Record<string, (outcome: Outcome) => void | Promise<void>> = {
  "first-picture.mjs": async ({ stdout, files, folder }) => {
    expect(stdout).toMatch(/^seven\.png: 32 × 32, drawn on \S+\n$/);
    expect(files).toEqual(["seven.png"]);
    const { width, height, format } = await sharp(join(folder, "seven.png")).metadata();
    expect({ width, height, format }).toEqual({ width: 32, height: 32, format: "png" });
  },
  "scales-to-png.mjs": ({ stdout, files }) => {
    expect(files).toEqual(["final.png", ...[1, 2, 3, 4, 5, 6].map((n) => `scale-${n}.png`)]);
    expect(stdout.trim().split("\n")).toHaveLength(7);
  },
  "change-depth.mjs": ({ stdout }) => {
    expect(stdout.match(/^side \d+: \d blocks \((plan|set)\), /gm)).toHaveLength(6);
    expect(stdout).toContain("\n3 images\n");
    expect(stdout.match(/^side \d+: \d blocks \((plan|deadline|late)\)$/gm)).toHaveLength(6);
  },
  "many-callers.mjs": ({ stdout }) => {
    for (const line of ["one: 1 images", "shallow: 4 images", "hurried: 1 images", "large: 16 images"]) {
      expect(stdout).toContain(line);
    }
    expect(stdout).toContain("cancelled: ABORTED, the caller has gone");
    expect(stdout).toMatch(/largest batch: [1-9]\d* rows; pool: at most [1-9]\d* of 33554432 bytes/);
  },
  "round-trip.mjs": ({ stdout }) => {
    expect(stdout).toMatch(/^130 tokens; the round trip changes a pixel by \d+\.\d of 255 on average$/m);
    expect(stdout).toMatch(/^best explained as "four": \d\.\d\d nats per token$/m);
  },
  "worker-threads.mjs": ({ stdout }) => {
    expect(stdout.trim().split("\n").sort()).toEqual([2, 6].map((n) => `a ${n} of 32 × 32, 3072 bytes handed over`));
  },
};

test("there are examples, and each is listed and explained", () => {
  const readme = readFileSync(join(folder, "README.md"), "utf8");
  expect(programs.length).toBeGreaterThan(0);
  expect(programs.sort()).toEqual(Object.keys(EXPECTED).sort());
  expect([...readme.matchAll(/^\| \[`(.*?)`\]\(\1\)/gm)].map((match) => match[1]).sort()).toEqual(programs.sort());
});

test.each(programs)("%s", async (name) => {
  const outcome = await runExample(name);
  expect(outcome.stderr).toBe("");
  await EXPECTED[name]!(outcome);
});
