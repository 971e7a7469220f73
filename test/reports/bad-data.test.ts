/** Items 4 and 17 of the log: a system's failure is not bad data, and a name that is no UTF-8 is a name. */

import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readPicture } from "../../lib/data/picture.js";
import { tokenize, tokenizeImages } from "../../lib/data/tokenize.js";
import { systemFailure } from "../../lib/files/failure.js";
import { nameOf, shownName } from "../../lib/files/place.js";
import { FakeEncoder, scratch, writeClasses } from "../support/token-files.js";

const optionsOf = (root: string, model = new FakeEncoder()) => ({
  model,
  images: join(root, "images"),
  output: join(root, "tokens"),
  shardSize: 2,
});

/** A reader that fails for one file. */
function failing(error: Error & { code?: string }, times = Number.POSITIVE_INFINITY): typeof readPicture {
  let left = times;
  return async (place, ...rest) => {
    if (String(place).endsWith("001.png") && left-- > 0) throw error;
    return readPicture(place, ...rest);
  };
}

describe("a failure of the system", () => {
  test.each<[string, string | undefined, string]>([
    ["EMFILE", "EMFILE", "IO"],
    ["EACCES", "EACCES", "IO"],
    ["EAGAIN", "EAGAIN", "IO"],
    ["EIO", "EIO", "IO"],
    ["ENOMEM", "ENOMEM", "OUT_OF_MEMORY"],
    ["a permission that Node's model lacks", "ERR_ACCESS_DENIED", "IO"],
    ["Input buffer: VipsJpeg: Insufficient memory (case 4)", undefined, "OUT_OF_MEMORY"],
    ["vips__thread_create: unable to create thread", undefined, "IO"],
    ["unable to open: Too many open files", undefined, "IO"],
  ])("%s ends the run, and the next one has every image", async (text, code, expected) => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1, 2, 3], b: [4] });
    const error = Object.assign(new Error(text), code === undefined ? {} : { code });
    await expect(tokenize(optionsOf(root), failing(error))).rejects.toMatchObject({
      code: expected,
      message: expect.stringContaining("a/001.png"),
    });
    const { images, skipped } = await tokenizeImages(optionsOf(root));
    expect([images, skipped]).toEqual([4, []]);
  });

  test("one that has passed at the second look costs nothing", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1, 2, 3] });
    const { images, skipped } = await tokenize(optionsOf(root), failing(new Error("VipsPng: hiccup"), 1));
    expect([images, skipped]).toEqual([3, []]);
  });

  test("a file that is gone since the folder was listed ends the run; only a dead link is bad", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1, 2, 3] });
    symlinkSync(join(root, "nowhere"), join(root, "images", "a", "dead.png"));
    writeFileSync(join(root, "text.png"), "no picture");
    symlinkSync(join(root, "text.png"), join(root, "images", "a", "live.png"));
    const removing: typeof readPicture = async (place, ...rest) => {
      if (String(place).endsWith("001.png")) rmSync(place, { force: true });
      return readPicture(place, ...rest);
    };
    await expect(tokenize(optionsOf(root), removing)).rejects.toMatchObject({ code: "IO" });
    rmSync(join(root, "tokens"), { recursive: true });
    const { skipped } = await tokenizeImages(optionsOf(root));
    expect(skipped.map(({ path, reason }) => [path, reason.slice(0, 26)])).toEqual([
      ["a/dead.png", "a link that leads nowhere"],
      ["a/live.png", "Input buffer contains unsu"],
    ]);
  });

  test("what a file has to say about itself is its own fault", () => {
    for (const text of ["Input buffer contains unsupported image format", "pngload_buffer: libspng read error"]) {
      expect(systemFailure(new Error(text), "x")).toBe(null);
    }
  });
});

test("a class that bad files leave empty is an error, and the set stays unfinished", async () => {
  const root = scratch();
  await writeClasses(join(root, "images"), { a: [1, 2], b: [3] });
  writeFileSync(join(root, "images", "b", "000.png"), "no picture");
  const error = { code: "INVALID_OPTION", message: expect.stringMatching(/class b \(b\/000\.png: Input buffer/) };
  await expect(tokenizeImages(optionsOf(root))).rejects.toMatchObject(error);
  await expect(tokenizeImages(optionsOf(root))).rejects.toMatchObject(error); // the same answer the second time
  const { shards, entries } = JSON.parse(readFileSync(join(root, "tokens", "tokens.json"), "utf8"));
  expect(shards.length).toBeLessThan(entries);
});

test("names that are no UTF-8, of files and of classes", async () => {
  const root = scratch();
  await writeClasses(join(root, "images"), { a: [10, 20], b: [30] });
  const folder = Buffer.from(join(root, "images"));
  const under = (...parts: (string | Buffer)[]) =>
    Buffer.concat([folder, ...parts.flatMap((part) => [Buffer.from("/"), Buffer.from(part as Buffer)])]);
  const cafe = Buffer.from("caf\xe9", "latin1");
  try {
    renameSync(under("a", "001.png"), under("a", Buffer.concat([cafe, Buffer.from(".png")])));
    mkdirSync(under(cafe));
    renameSync(under("b", "000.png"), under(cafe, "x.png"));
    rmSync(under("b"), { recursive: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EILSEQ") return; // a file system that has no such names (macOS)
    throw error;
  }
  const model = new FakeEncoder();
  const { classes, images, skipped } = await tokenizeImages(optionsOf(root, model));
  expect([classes, images, skipped]).toEqual([["a", "caf\\xe9"], 3, []]);
  expect(model.seen.map(({ data }) => data[0])).toEqual([10, 20, 30]);
  expect(shownName(nameOf(Buffer.from("grün")))).toBe("grün");
});
