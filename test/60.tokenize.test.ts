/** tokenizeImages: what a folder of images becomes, what is refused, what an interruption costs. */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import sharp, { type Sharp } from "sharp";
import { describe, expect, test } from "vitest";
import { type TokenizeOptions, TokenSet, tokenizeImages } from "../lib/data/index.js";
import { cropPosition, placement } from "../lib/data/picture.js";
import { Golden, openGolden } from "./support/golden.js";
import { FakeEncoder, pixels, scratch, writeClasses, writePng } from "./support/token-files.js";

type Options = Partial<TokenizeOptions>;

/** Tokenizes `root/images` into `root/tokens`. */
function run(root: string, model: FakeEncoder, options: Options = {}) {
  return tokenizeImages({ model, images: join(root, "images"), output: join(root, "tokens"), ...options });
}

/** Content of every file of a folder. */
function contents(folder: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name), "base64")]),
  );
}

async function readAll(root: string) {
  const set = await TokenSet.open(join(root, "tokens"));
  return { set, ...(await set.read(Uint32Array.from({ length: set.length }, (_, i) => i))) };
}

describe("classes and files", () => {
  test("sorted sub-folders are the classes, files at any depth below are theirs", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { b: [30], a: [10, 20], "c/inner/deep": [40], "10": [5], "9": [6] });
    const result = await run(root, new FakeEncoder());
    expect(result).toMatchObject({
      classes: ["10", "9", "a", "b", "c"],
      images: 6,
      shards: 1,
      skipped: [],
      resumed: 0,
    });
    const { set, labels, tokens } = await readAll(root);
    expect(set).toMatchObject({ length: 6, sides: [1, 2], codebookSize: 256, classes: ["10", "9", "a", "b", "c"] });
    expect([...labels]).toEqual([0, 1, 2, 2, 3, 4]);
    expect(Array.from({ length: 6 }, (_, i) => tokens[5 * i])).toEqual([5, 6, 10, 20, 30, 40]);
  });

  test("links are followed, clutter is left out, files beside the classes are told", async () => {
    const root = scratch();
    await writeClasses(join(root, "elsewhere"), { x: [1, 2] });
    await writeClasses(join(root, "images"), { a: [3] });
    symlinkSync(join(root, "elsewhere", "x"), join(root, "images", "b"));
    for (const name of [".hidden", "a/.DS_Store", "a/Thumbs.db"]) writeFileSync(join(root, "images", name), "x");
    writeFileSync(join(root, "images", "readme.txt"), "x");
    const result = await run(root, new FakeEncoder());
    expect(result).toMatchObject({ classes: ["a", "b"], images: 3, skipped: [], strayFiles: ["readme.txt"] });
  });

  test("maxPerClass takes the first files by name", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1, 2, 3], b: [4] });
    const model = new FakeEncoder();
    await run(root, model, { maxPerClass: 2 });
    expect(model.seen.map(({ data }) => data[0])).toEqual([1, 2, 4]);
  });

  test("one image is enough", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [9] });
    expect(await run(root, new FakeEncoder())).toMatchObject({ images: 1, classes: ["a"] });
    expect((await readAll(root)).set.length).toBe(1);
  });
});

describe("files that cannot be read", () => {
  test("are skipped and listed with a reason, in the result and in tokens.json", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1, 2], b: [3] });
    const bad = (name: string) => join(root, "images", name);
    writeFileSync(bad("a/empty.png"), "");
    writeFileSync(bad("a/text.jpg"), "this is no picture");
    await writePng(bad("b/cut.png"), 64, (x, y) => (x * 7 + y * 13) % 256);
    truncateSync(bad("b/cut.png"), 200);
    symlinkSync(join(root, "nowhere"), bad("b/dead.png"));
    const result = await run(root, new FakeEncoder(), { flip: true });
    expect(result.images).toBe(6);
    const paths = ["a/empty.png", "a/text.jpg", "b/cut.png", "b/dead.png"];
    expect(result.skipped.map(({ path }) => path)).toEqual(paths);
    for (const { reason } of result.skipped) expect(reason.length).toBeGreaterThan(5);
    const manifest = JSON.parse(readFileSync(join(root, "tokens", "tokens.json"), "utf8"));
    expect(manifest.skipped).toEqual(result.skipped);
    expect([...(await readAll(root)).labels]).toEqual([0, 0, 1, 0, 0, 1]);
  });

  test("a shard of nothing but such files is empty, and the set is whole", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), { a: [1], b: [2] });
    for (const name of ["x1", "x2", "x3"]) writeFileSync(join(root, "images", "a", name), "no picture");
    expect(await run(root, new FakeEncoder(), { shardSize: 1 })).toMatchObject({ images: 2, shards: 5 });
    expect([...(await readAll(root)).labels]).toEqual([0, 1]);
  });
});

describe("pictures", () => {
  test("grey, 16-bit, palette, alpha, CMYK and turned pictures become upright sRGB on black", async () => {
    const root = scratch();
    const folder = join(root, "images", "a");
    mkdirSync(folder, { recursive: true });
    const colour = { width: 8, height: 8, channels: 3 as const, background: { r: 200, g: 100, b: 50 } };
    const save = async (name: string, image: Sharp) => writeFileSync(join(folder, name), await image.toBuffer());
    await save(
      "0.png",
      sharp(
        pixels(8, 8, () => 77),
        { raw: { width: 8, height: 8, channels: 1 } },
      ).png(),
    );
    await save("1.png", sharp({ create: colour }).toColourspace("rgb16").png());
    await save("2.png", sharp({ create: colour }).png({ palette: true }));
    await save(
      "3.png",
      sharp({ create: { ...colour, channels: 4, background: { r: 255, g: 255, b: 255, alpha: 0 } } }).png(),
    );
    await save("4.jpg", sharp({ create: colour }).toColourspace("cmyk").jpeg({ quality: 100 }));
    await save("5.webp", sharp({ create: colour }).webp({ lossless: true }));
    const turned = pixels(8, 8, (x, y) => (x < 4 && y < 4 ? 255 : 0)); // the corner at the top left
    const grey = { raw: { width: 8, height: 8, channels: 1 as const } };
    await save("6.jpg", sharp(turned, grey).withMetadata({ orientation: 6 }).jpeg({ quality: 100 }));
    const model = new FakeEncoder();
    expect((await run(root, model)).skipped).toEqual([]);
    const first = model.seen.map(({ data }) => [...data.slice(0, 3)]);
    expect(first[0]).toEqual([77, 77, 77]);
    expect(first[2]).toEqual([200, 100, 50]);
    expect(first[3]).toEqual([0, 0, 0]);
    expect(first[5]).toEqual([200, 100, 50]);
    const farthest = (row: number[]) =>
      Math.max(...[200, 100, 50].map((value, channel) => Math.abs(row[channel]! - value)));
    expect(farthest(first[1]!)).toBeLessThan(3);
    expect(farthest(first[4]!)).toBeLessThan(40); // CMYK without a profile is a guess
    const upright = model.seen[6]!.data; // orientation 6: to be turned by 90 degrees, so the corner is at the top right
    expect(upright[3 * 1]).toBeLessThan(30);
    expect(upright[3 * 6]).toBeGreaterThan(225);
  });

  test("pad: 28 into 32 with black all round and no scaling; what is larger is cropped", async () => {
    const root = scratch();
    await writePng(join(root, "images", "a", "small.png"), 28, (x, y) => 1 + ((x + 28 * y) % 255));
    await writePng(join(root, "images", "b", "large.png"), 40, (x, y) => (x * 5 + y) % 256);
    const model = new FakeEncoder({ imageSide: 32 });
    await run(root, model, { fit: "pad" });
    const [small, large] = model.seen.map(({ data }) => data) as [Uint8ClampedArray, Uint8ClampedArray];
    for (let y = 0; y < 32; y++) {
      for (let x = 0; x < 32; x++) {
        const inside = x >= 2 && x < 30 && y >= 2 && y < 30;
        expect(small[(y * 32 + x) * 3]).toBe(inside ? 1 + ((x - 2 + 28 * (y - 2)) % 255) : 0);
        expect(large[(y * 32 + x) * 3 + 1]).toBe(((x + 4) * 5 + y + 4) % 256);
      }
    }
  });

  test("cover, contain and fill of a wide picture", async () => {
    const root = scratch();
    mkdirSync(join(root, "images", "a"), { recursive: true });
    const wide = pixels(32, 16, (x) => (x < 8 ? 255 : x < 24 ? 100 : 255)); // white at both ends
    const raw = { width: 32, height: 16, channels: 1 as const };
    writeFileSync(join(root, "images", "a", "wide.png"), await sharp(wide, { raw }).png().toBuffer());
    const seen: Record<string, number[]> = {};
    for (const fit of ["cover", "contain", "fill"] as const) {
      const model = new FakeEncoder({ imageSide: 16 });
      await run(root, model, { fit, overwrite: true });
      seen[fit] = Array.from({ length: 16 }, (_, y) => model.seen[0]!.data[(y * 16 + 8) * 3]!);
      seen[`${fit} edge`] = [model.seen[0]!.data[(8 * 16 + 0) * 3]!];
    }
    expect(seen.cover).toEqual(Array(16).fill(100));
    expect(seen["cover edge"]).toEqual([100]); // the white ends are cropped
    expect(seen.contain!.map((value) => (value > 50 ? 1 : 0)).join("")).toBe("0000111111110000");
    expect(seen["fill edge"]![0]).toBeGreaterThan(240);
    expect(seen.fill!.every((value) => Math.abs(value - 100) < 20)).toBe(true);
  });

  test("flip adds every image mirrored, after all the others", async () => {
    const root = scratch();
    await writePng(join(root, "images", "a", "0.png"), 8, (x, y) => x * 10 + y);
    await writePng(join(root, "images", "b", "0.png"), 8, (x, y) => 200 - x * 10 - y);
    const model = new FakeEncoder();
    expect(await run(root, model, { flip: true, batch: 1 })).toMatchObject({ images: 4 });
    for (const index of [0, 1]) {
      for (let y = 0; y < 8; y++) {
        for (let x = 0; x < 8; x++) {
          const mirrored = model.seen[2 + index]!.data[(y * 8 + 7 - x) * 3];
          expect(mirrored).toBe(model.seen[index]!.data[(y * 8 + x) * 3]);
        }
      }
    }
    expect([...(await readAll(root)).labels]).toEqual([0, 1, 0, 1]);
  });

  test("a random crop depends on the seed and the path, not on the order or the other files", async () => {
    const crops = async (seed: number, names: string[], batch: number) => {
      const root = scratch();
      for (const name of names) await writePng(join(root, "images", "a", name), 40, (x, y) => (x * 41 + y * 7) % 256);
      const model = new FakeEncoder();
      await run(root, model, { crop: "random", fit: "pad", seed, batch });
      return Object.fromEntries(
        names.map((name, index) => [name, Buffer.from(model.seen[index]!.data).toString("hex")]),
      );
    };
    const all = await crops(5, ["a.png", "b.png", "c.png", "d.png"], 2);
    expect(await crops(5, ["b.png", "d.png"], 1)).toEqual({ "b.png": all["b.png"], "d.png": all["d.png"] });
    expect(new Set(Object.values(all)).size).toBeGreaterThan(2);
    expect(await crops(6, ["b.png"], 1)).not.toEqual({ "b.png": all["b.png"] });
  });

  test("property: a placement keeps a part of the picture, scaled as asked, inside the square", () => {
    const length = fc.integer({ min: 1, max: 5000 });
    const at = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    const fit = fc.constantFrom("cover" as const, "contain" as const, "fill" as const, "pad" as const);
    fc.assert(
      fc.property(
        length,
        length,
        fit,
        fc.integer({ min: 1, max: 600 }),
        fc.integer({ min: 0, max: 100 }),
        at,
        at,
        (w, h, mode, side, extra, x, y) => {
          const place = placement(w, h, { fit: mode, side, resize: side + extra }, [x, y]);
          const { width, height, left, top, keptWidth, keptHeight, padLeft, padTop } = place;
          expect(Math.min(left, top, padLeft, padTop)).toBeGreaterThanOrEqual(0);
          expect(left + keptWidth).toBeLessThanOrEqual(width);
          expect(top + keptHeight).toBeLessThanOrEqual(height);
          expect(padLeft + keptWidth).toBeLessThanOrEqual(side);
          expect(padTop + keptHeight).toBeLessThanOrEqual(side);
          expect(keptWidth === side || keptWidth === width).toBe(true);
          if (mode === "cover") {
            expect([keptWidth, keptHeight, Math.min(width, height)]).toEqual([side, side, side + extra]);
          }
          if (mode === "contain") expect(Math.max(width, height)).toBe(side);
          if (mode === "fill") expect([width, height]).toEqual([side, side]);
          if (mode === "pad") expect([width, height]).toEqual([w, h]);
        },
      ),
    );
  });

  test("the centre is the middle; random places reach every offset", () => {
    const centre = cropPosition({ crop: "centre", seed: "0" }, "x", false);
    const settings = { fit: "pad" as const, side: 4, resize: 4 };
    expect(placement(10, 7, settings, centre)).toMatchObject({ left: 3, top: 1 });
    const lefts = new Set<number>();
    for (let index = 0; index < 200; index++) {
      const at = cropPosition({ crop: "random", seed: "1" }, `a/${index}.png`, index % 2 === 0);
      lefts.add(placement(7, 7, settings, at).left);
    }
    expect([...lefts].sort()).toEqual([0, 1, 2, 3]);
  });
});

describe("interruptions", () => {
  const greys = { a: [1, 2, 3, 4, 5], b: [6, 7, 8] };

  async function undisturbed(options: Options = {}) {
    const root = scratch();
    await writeClasses(join(root, "images"), greys);
    await run(root, new FakeEncoder(), { shardSize: 3, batch: 2, flip: true, ...options });
    return contents(join(root, "tokens"));
  }

  /** Same files with the same times, so that the plan is the same. */
  async function sameImages(root: string) {
    await writeClasses(join(root, "images"), greys);
    const walk = readdirSync(join(root, "images"), { recursive: true, withFileTypes: true });
    for (const file of walk) if (file.isFile()) utimesSync(join(file.parentPath, file.name), 1_000_000, 1_000_000);
  }

  test.each([1, 3, 4, 7])(
    "stopped before batch %i: finished shards stay, the rest is made, the bytes are the same",
    async (stopAt) => {
      const whole = scratch();
      await sameImages(whole);
      await run(whole, new FakeEncoder(), { shardSize: 3, batch: 2, flip: true });
      const root = scratch();
      await sameImages(root);
      const stop = new AbortController();
      const first = new FakeEncoder();
      first.before = () => {
        if (first.batches.length === stopAt) stop.abort(new Error("Ctrl-C"));
      };
      const options = { shardSize: 3, batch: 2, flip: true };
      await expect(run(root, first, { ...options, signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
      await expect(TokenSet.open(join(root, "tokens"))).rejects.toMatchObject({ code: "INVALID_TOKENS" });
      const second = new FakeEncoder();
      const reports: number[] = [];
      const result = await run(root, second, { ...options, onProgress: ({ done }) => reports.push(done) });
      expect(contents(join(root, "tokens"))).toEqual(contents(join(whole, "tokens")));
      expect(result.images).toBe(16);
      expect(second.seen.length).toBe(16 - result.resumed);
      expect(result.resumed % 3).toBe(0);
      expect(reports[0]).toBe(result.resumed);
      expect(reports.at(-1)).toBe(16);
    },
  );

  test("batches and shards do not change the images or their order", async () => {
    const tokensOf = async (shardSize: number, batch: number) => {
      const root = scratch();
      await writeClasses(join(root, "images"), greys);
      await run(root, new FakeEncoder(), { shardSize, batch });
      const { tokens, labels } = await readAll(root);
      return [[...tokens], [...labels]];
    };
    const reference = await tokensOf(1000, 1000);
    for (const [shardSize, batch] of [
      [1, 1],
      [3, 2],
      [8, 5],
    ] as const) {
      expect(await tokensOf(shardSize, batch)).toEqual(reference);
    }
  });

  test("a finished set is left as it is; a damaged shard is made again", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), greys);
    writeFileSync(join(root, "images", "b", "bad.png"), "no picture");
    await run(root, new FakeEncoder(), { shardSize: 3 });
    const before = contents(join(root, "tokens"));
    const idle = new FakeEncoder();
    expect(await run(root, idle)).toMatchObject({ images: 8, resumed: 8 });
    expect(idle.seen).toEqual([]);
    const path = join(root, "tokens", "shard-00001.safetensors");
    const bytes = readFileSync(path);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(path, bytes);
    const repairing = new FakeEncoder();
    expect(await run(root, repairing, { shardSize: 3 })).toMatchObject({ images: 8, resumed: 3 });
    expect(contents(join(root, "tokens"))).toEqual(before);
  });

  test("half-written files of a killed run are removed", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), greys);
    const tokens = join(root, "tokens");
    mkdirSync(tokens);
    writeFileSync(join(tokens, ".shard-00000.safetensors.123-0a1b2c3d.tmp"), "half");
    writeFileSync(join(tokens, "mine.txt"), "stays");
    await run(root, new FakeEncoder());
    expect(readdirSync(tokens).sort()).toEqual(["mine.txt", "shard-00000.safetensors", "tokens.json"]);
  });

  test("a shard that cannot be written is an IoError; what was finished stays, and the next call goes on", async () => {
    const root = scratch();
    await writeClasses(join(root, "images"), greys);
    const blocked = join(root, "tokens", "shard-00001.safetensors");
    mkdirSync(join(blocked, "in the way"), { recursive: true }); // a full disk fails at the same place
    await expect(run(root, new FakeEncoder(), { shardSize: 3 })).rejects.toMatchObject({ code: "IO" });
    expect(readdirSync(join(root, "tokens")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    rmSync(blocked, { recursive: true });
    expect(await run(root, new FakeEncoder(), { shardSize: 3 })).toMatchObject({ images: 8, resumed: 3 });
  });

  test("undisturbed runs agree to the byte but for the times of the files", async () => {
    const [one, two] = [await undisturbed(), await undisturbed()];
    delete one["tokens.json"];
    delete two["tokens.json"];
    expect(one).toEqual(two);
    expect(Object.keys(one).length).toBe(6);
  });
});

describe("refusals", () => {
  async function prepared(greys: Record<string, number[]> = { a: [1], b: [2] }) {
    const root = scratch();
    await writeClasses(join(root, "images"), greys);
    return root;
  }

  test("a folder that holds another set", async () => {
    const root = await prepared();
    await run(root, new FakeEncoder());
    const other = (model: FakeEncoder, options: Options, found: RegExp) =>
      expect(run(root, model, options)).rejects.toMatchObject({
        code: "INVALID_TOKENS",
        message: expect.stringMatching(found),
      });
    await other(new FakeEncoder({ fingerprint: "cd".repeat(32) }), {}, /another tokenizer/);
    await other(new FakeEncoder(), { flip: true }, /other settings/);
    await other(new FakeEncoder(), { seed: 4 }, /other settings/);
    await writeClasses(join(root, "images"), { b: [2, 3] });
    await other(new FakeEncoder(), {}, /other files/);
    await writeClasses(join(root, "images"), { c: [4] });
    await other(new FakeEncoder(), {}, /other classes/);
    expect(await run(root, new FakeEncoder(), { overwrite: true })).toMatchObject({ images: 4, resumed: 0 });
  });

  test("overwrite leaves nothing of the older set", async () => {
    const root = await prepared({ a: [1, 2, 3] });
    await run(root, new FakeEncoder(), { shardSize: 1 });
    await run(root, new FakeEncoder(), { overwrite: true });
    expect(readdirSync(join(root, "tokens")).sort()).toEqual(["shard-00000.safetensors", "tokens.json"]);
  });

  test("no images, no classes, an empty class, nothing readable", async () => {
    const root = await prepared();
    const refused = async (images: string, found: RegExp) => {
      const error = { code: "INVALID_OPTION", option: "images", found: expect.stringMatching(found) };
      await expect(run(root, new FakeEncoder(), { images })).rejects.toMatchObject(error);
    };
    await refused(join(root, "nowhere"), /does not exist/);
    await refused(join(root, "images", "a", "000.png"), /is a file/);
    await refused(join(root, "images", "a"), /1 files and no sub-folder/);
    mkdirSync(join(root, "void"));
    await refused(join(root, "void"), /nothing/);
    mkdirSync(join(root, "images", "empty", "inner"), { recursive: true });
    await refused(join(root, "images"), /no file in .*empty/);
    mkdirSync(join(root, "text", "a"), { recursive: true });
    writeFileSync(join(root, "text", "a", "x.png"), "text");
    await refused(join(root, "text"), /1 files, none of them readable \(a\/x.png: /);
  });

  test("a circle of links ends", async () => {
    const root = await prepared();
    symlinkSync(join(root, "images"), join(root, "images", "a", "up"));
    await expect(run(root, new FakeEncoder())).rejects.toMatchObject({ code: "INVALID_OPTION" });
  });

  test("options", async () => {
    const root = await prepared();
    const refused = async (options: object, option: string) => {
      await expect(run(root, new FakeEncoder(), options)).rejects.toMatchObject({ code: "INVALID_OPTION", option });
      expect(existsSync(join(root, "tokens"))).toBe(false);
    };
    await refused({ fit: "crop" }, "fit");
    await refused({ fit: "pad", resize: 10 }, "resize");
    await refused({ resize: 7 }, "resize");
    await refused({ fit: "contain", crop: "random" }, "crop");
    await refused({ crop: "center" }, "crop");
    await refused({ seed: -1 }, "seed");
    await refused({ maxPerClass: 0 }, "maxPerClass");
    await refused({ shardSize: 2 ** 20 + 1 }, "shardSize");
    await refused({ batch: 0 }, "batch");
    await refused({ flip: "yes" }, "flip");
    await refused({ flop: true }, "flop");
    await refused({ model: {} }, "model");
    await refused({ images: undefined }, "images");
    await refused({ signal: {} }, "signal");
    await expect(tokenizeImages(undefined as never)).rejects.toMatchObject({ code: "INVALID_OPTION" });
  });

  test("an output that cannot be a folder", async () => {
    const root = await prepared();
    writeFileSync(join(root, "tokens"), "a file");
    await expect(run(root, new FakeEncoder())).rejects.toMatchObject({ code: "IO" });
  });

  test("an aborted signal", async () => {
    const root = await prepared();
    const model = new FakeEncoder();
    const promise = run(root, model, { signal: AbortSignal.abort(new Error("no")) });
    await expect(promise).rejects.toMatchObject({ code: "ABORTED" });
    expect(model.seen).toEqual([]);
  });
});

test("the digits model: 28 x 28 pictures padded to 32 give the recorded tokens of held-out images", async () => {
  const golden = new Golden("digits");
  const [grey, labels, expected] = [
    golden.i32("heldout/pixels"),
    golden.i32("heldout/labels"),
    golden.i32("heldout/tokens"),
  ];
  const root = scratch();
  const count = 40;
  for (let image = 0; image < count; image++) {
    const name = `${String(image).padStart(3, "0")}.png`;
    await writePng(
      join(root, "images", String(labels[image]), name),
      28,
      (x, y) => grey[image * 1024 + (y + 2) * 32 + x + 2]!,
    );
  }
  const model = await openGolden("digits");
  try {
    await tokenizeImages({ model, images: join(root, "images"), output: join(root, "tokens"), fit: "pad" });
    const { set, tokens } = await readAll(root);
    expect(set.fingerprint).toBe(model.tokenizerFingerprint);
    const order = Array.from({ length: count }, (_, image) => image).sort((a, b) => labels[a]! - labels[b]! || a - b);
    expect([...set.labels].map((label) => set.classes[label])).toEqual(order.map((image) => String(labels[image])));
    let differing = 0;
    order.forEach((image, row) => {
      for (let i = 0; i < 130; i++) if (tokens[row * 130 + i] !== expected[image * 130 + i]) differing++;
    });
    expect(differing).toBeLessThan(6); // one in a thousand: near ties
  } finally {
    await model.dispose();
  }
});
