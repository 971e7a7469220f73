/** `nextscale edit`: files in, files out, refusals with the flag's name. */

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Image, loadModel } from "../lib/index.js";
import { runCli } from "./support/cli.js";

const folder = mkdtempSync(join(tmpdir(), "nextscale-cli-edit-"));
const at = (name: string) => join(folder, name);
const nextscale = (words: string[]) => runCli(words, { loadModel });
const edit = (...words: string[]) => nextscale(["edit", ...words]);

beforeAll(async () => {
  const { code } = await nextscale(["generate", "3", "--seed", "42", "-o", at("three.png")]);
  expect(code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a rectangle is drawn anew, the rest stays to the byte", async () => {
  const result = await edit(
    at("three.png"),
    "8",
    "--rect",
    "8,16,16,16",
    "--seed",
    "1",
    "--feather",
    "0",
    "-o",
    at("a.png"),
  );
  expect(result).toMatchObject({ code: 0 });
  expect(result.stdout).toMatch(/a\.png: 1 variant, seed 1/);
  const [before, after] = [await Image.from(at("three.png")), await Image.from(at("a.png"))];
  expect(after.data.subarray(0, 16 * 32 * 3)).toEqual(before.data.subarray(0, 16 * 32 * 3));
  expect(after.data).not.toEqual(before.data);
});

test("a mask from a file is the same as its rectangle", async () => {
  const data = Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % 32, Math.floor(i / 96)];
    return x >= 8 && x < 24 && y >= 16 ? 0 : 255;
  });
  await (await Image.from({ width: 32, height: 32, data })).toFile(at("mask.png"));
  const common = ["8", "--seed", "1", "--feather", "0"];
  await edit(at("three.png"), ...common, "--mask", at("mask.png"), "-o", at("b.png"));
  await edit(at("three.png"), ...common, "--rect", "8,16,16,16", "-o", at("c.png"));
  expect((await Image.from(at("b.png"))).data).toEqual((await Image.from(at("c.png"))).data);
});

test("variants go into a folder, best seam first, and JSON says which is which", async () => {
  const words = ["3", "--strength", "0.5", "--variants", "3", "--seed", "2", "-o", `${at("out")}/`, "--json"];
  const result = await edit(at("three.png"), ...words);
  const { images, seed } = JSON.parse(result.stdout);
  expect(seed).toBe(2);
  expect(images.map(({ variant }: { variant: number }) => variant).sort()).toEqual([0, 1, 2]);
  const losses = images.map(({ seamLoss }: { seamLoss: number }) => seamLoss);
  expect([...losses].sort((a, b) => a - b)).toEqual(losses);
  expect(readdirSync(at("out"))).toHaveLength(3);
});

test("an edit that keeps nothing says what it is", async () => {
  const result = await edit(at("three.png"), "3", "--seed", "1", "-o", at("d.png"));
  expect(result.code).toBe(0);
  expect(result.stderr).toMatch(/nothing of the picture is kept.*generate/);
});

describe("refusals leave no file", () => {
  const cases: [string, string[], number, RegExp][] = [
    ["a label that is not there", ["99"], 2, /99/],
    ["a mask that is not there", ["--mask", "none.png"], 1, /\[IO\].*none\.png/],
    ["a mask beside a rectangle", ["--mask", "m.png", "--rect", "1,1,2,2"], 2, /--mask|--rect/],
    ["three numbers", ["--rect", "1,2,3"], 2, /four numbers/],
    ["a rectangle outside", ["--rect", "30,30,8,8"], 2, /within the image's 32 x 32/],
    ["strength beyond 1", ["--strength", "2"], 2, /0\.\.1/],
    ["a canvas that is not square", ["--expand", "8,0,0,0"], 2, /8 more pixels above or below/],
  ];
  test.each(cases)("%s", async (_, words, code, message) => {
    const result = await edit(at("three.png"), ...words, "-o", at("never.png"));
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
    expect(existsSync(at("never.png"))).toBe(false);
  });

  test("a picture that is not there, and none at all", async () => {
    expect(await edit(at("nothing.png"), "-o", at("never.png"))).toMatchObject({ code: 1 });
    expect(await edit()).toMatchObject({ code: 2 });
  });
});
