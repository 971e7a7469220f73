import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import fc from "fast-check";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { formatOf, Image } from "../lib/image/image.js";
import { scratchFolder } from "./support/cli.js";
import { rejection } from "./support/rejections.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** A picture with no two rows, columns or channels alike. */
function gradient(width: number, height: number): Image {
  const data = Uint8ClampedArray.from({ length: width * height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return [(pixel % width) * 7, Math.floor(pixel / width) * 5, pixel][i % 3]! % 256;
  });
  return new Image(width, height, data);
}

const solid = (side: number, value: number) =>
  new Image(side, side, new Uint8ClampedArray(side * side * 3).fill(value));

function largestDifference(a: Image, b: Image): number {
  expect([b.width, b.height]).toEqual([a.width, a.height]);
  return a.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b.data[i]!)), 0);
}

describe("encoding", () => {
  test("png gives every pixel back; formats are what they say", async () => {
    const image = gradient(19, 11);
    const png = await image.toBuffer();
    expect([...png.subarray(0, 4)]).toEqual([0x89, 0x50, 0x4e, 0x47]);
    expect([...(await Image.from(png)).data]).toEqual([...image.data]);
    expect([...(await image.toBuffer("jpeg")).subarray(0, 3)]).toEqual([0xff, 0xd8, 0xff]);
    expect((await image.toBuffer("webp")).subarray(8, 12).toString()).toBe("WEBP");
  });

  test("jpeg and webp keep smooth pictures close, and quality changes the size", async () => {
    const smooth = new Image(
      32,
      32,
      Uint8ClampedArray.from({ length: 32 * 32 * 3 }, (_, i) => 4 * (Math.floor(i / 3) % 32) + 40 * (i % 3)),
    );
    for (const format of ["jpeg", "webp"] as const) {
      const best = await smooth.toBuffer(format, { quality: 98 });
      const worst = await smooth.toBuffer(format, { quality: 5 });
      expect(largestDifference(smooth, await Image.from(best)), format).toBeLessThan(24);
      expect(worst.length, format).toBeLessThan(best.length);
    }
  });

  test("refuses unknown formats, endings, qualities and lengths by name", async () => {
    const image = solid(4, 9);
    expect(await rejection(image.toBuffer("gif" as "png"))).toMatchObject({ code: "INVALID_OPTION", option: "format" });
    expect(await rejection(image.toFile("picture.tiff"))).toMatchObject({ code: "INVALID_OPTION", option: "path" });
    expect(await rejection(image.toBuffer("jpeg", { quality: 101 }))).toMatchObject({ option: "quality" });
    expect(await rejection(image.toBuffer("png", { speed: 1 } as object))).toMatchObject({ option: "speed" });
    expect(() => new Image(4, 4, new Uint8ClampedArray(47))).toThrow(/47 bytes/);
    expect([".PNG", ".jpg", ".JPEG", ".webp", ".tif", ""].map((ending) => formatOf(`a${ending}`))).toEqual([
      "png",
      "jpeg",
      "jpeg",
      "webp",
      null,
      null,
    ]);
  });
});

describe("files", () => {
  test("are replaced, and nothing is left beside them", async () => {
    const folder = scratchFolder();
    const path = join(folder, "a.png");
    writeFileSync(path, "not a picture");
    await gradient(8, 8).toFile(path);
    expect([...(await Image.from(path)).data]).toEqual([...gradient(8, 8).data]);
    expect(readdirSync(folder)).toEqual(["a.png"]);
  });

  test("a failed write keeps the old file and leaves no temporary one", async () => {
    const folder = scratchFolder();
    mkdirSync(join(folder, "a.png")); // a rename onto a folder fails at the last moment
    const error = await rejection(solid(4, 1).toFile(join(folder, "a.png")));
    expect(error).toMatchObject({ code: "IO", message: expect.stringContaining("a.png") });
    expect(readdirSync(folder)).toEqual(["a.png"]);
    expect(await rejection(solid(4, 1).toFile(join(folder, "missing", "a.png")))).toMatchObject({ code: "IO" });
  });

  test.skipIf(process.getuid?.() === 0)("a folder without write permission is an IO error", async () => {
    const folder = scratchFolder();
    chmodSync(folder, 0o500);
    expect(await rejection(solid(4, 1).toFile(join(folder, "a.png")))).toMatchObject({ code: "IO" });
  });
});

describe("Image.from", () => {
  test("takes raw pixels with 1, 3 and 4 channels", async () => {
    const grey = await Image.from({ width: 2, height: 1, data: Uint8Array.of(10, 200) });
    expect([...grey.data]).toEqual([10, 10, 10, 200, 200, 200]);
    const rgb = await Image.from({ width: 1, height: 1, data: Uint8Array.of(1, 2, 3), channels: 3 });
    expect([...rgb.data]).toEqual([1, 2, 3]);
    const rgba = await Image.from({ width: 2, height: 1, data: Uint8Array.of(200, 100, 50, 255, 200, 100, 50, 0) });
    expect([...rgba.data]).toEqual([200, 100, 50, 0, 0, 0]);
  });

  test("copies: the picture does not change with its source", async () => {
    const data = Uint8Array.of(1, 2, 3);
    const image = await Image.from({ width: 1, height: 1, data });
    data[0] = 99;
    expect(image.data[0]).toBe(1);
  });

  test("crops around the centre and scales to a side, or squeezes", async () => {
    // Left third red, middle third green, right third blue.
    const data = Uint8ClampedArray.from({ length: 96 * 32 * 3 }, (_, i) =>
      Math.floor((Math.floor(i / 3) % 96) / 32) === i % 3 ? 255 : 0,
    );
    const wide = new Image(96, 32, data);
    const cropped = await Image.from(wide, { side: 16 });
    expect([cropped.width, cropped.height]).toEqual([16, 16]);
    for (let pixel = 16 * 8; pixel < 16 * 9; pixel++) {
      const [red, green, blue] = cropped.data.subarray(pixel * 3, pixel * 3 + 3);
      expect(green! - Math.max(red!, blue!)).toBeGreaterThan(120); // green, whatever the filter does at the borders
    }
    const squeezed = await Image.from(wide, { side: 18, fit: "fill" });
    const strongest = [2, 9, 15].map((x) => [0, 1, 2].find((c) => squeezed.data[x * 3 + c]! > 240));
    expect(strongest).toEqual([0, 1, 2]);
  });

  test("reads files of other formats, upright, and grey ones as RGB", async () => {
    const folder = scratchFolder();
    const path = join(folder, "grey.png");
    await sharp(Uint8Array.of(5, 60, 200, 255), { raw: { width: 2, height: 2, channels: 1 } })
      .toColourspace("b-w")
      .png()
      .toFile(path);
    expect([...(await Image.from(path)).data]).toEqual([5, 5, 5, 60, 60, 60, 200, 200, 200, 255, 255, 255]);
    const turned = await sharp(gradient(4, 2).data, { raw: { width: 4, height: 2, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    const upright = await Image.from(turned);
    expect([upright.width, upright.height]).toEqual([2, 4]);
  });

  test("says what is wrong with what it cannot read", async () => {
    expect(await rejection(Image.from("/no/such/file.png"))).toMatchObject({
      code: "IO",
      message: expect.stringContaining("/no/such/file.png"),
    });
    expect(await rejection(Image.from(Buffer.from("plain text")))).toMatchObject({ code: "IO" });
    expect(await rejection(Image.from(7 as unknown as string))).toMatchObject({
      code: "INVALID_OPTION",
      option: "input",
    });
    expect(await rejection(Image.from({ width: 2, height: 2, data: new Uint8Array(13) }))).toMatchObject({
      option: "input.data",
    });
    expect(await rejection(Image.from({ width: 2, height: 2, data: new Uint8Array(12), channels: 4 }))).toMatchObject({
      option: "input.data",
    });
    expect(await rejection(Image.from(solid(2, 0), { side: 0 }))).toMatchObject({ option: "side" });
  });
});

describe("Image.grid", () => {
  test("puts every image where it belongs, for any number, columns and gap", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 13 }),
        fc.integer({ min: 1, max: 15 }),
        fc.integer({ min: 0, max: 4 }),
        (count, columns, gap) => {
          const side = 3;
          const grid = Image.grid(
            Array.from({ length: count }, (_, i) => solid(side, i + 1)),
            columns,
            gap,
          );
          const across = Math.min(count, columns);
          expect(grid.width).toBe(across * side + (across - 1) * gap);
          const pitch = side + gap;
          for (let y = 0; y < grid.height; y++) {
            for (let x = 0; x < grid.width; x++) {
              const index = Math.floor(y / pitch) * across + Math.floor(x / pitch);
              const inside = x % pitch < side && y % pitch < side && index < count;
              expect(grid.data[(y * grid.width + x) * 3 + 2]).toBe(inside ? index + 1 : 0);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("is as square as it gets by default, and refuses nothing and mixed sizes", () => {
    expect(Image.grid(Array.from({ length: 5 }, () => solid(2, 1)))).toMatchObject({ width: 6, height: 4 });
    expect(() => Image.grid([])).toThrow(/at least one image/);
    expect(() => Image.grid([solid(2, 1), solid(3, 1)])).toThrow(/images\[1\]/);
    expect(() => Image.grid([solid(2, 1)], 0)).toThrow(/columns/);
  });
});

test("pixels alone never load sharp, and a missing sharp is a clear error", () => {
  const built = readFileSync(join(root, "dist", "index.js"), "utf8");
  expect(built).not.toMatch(/^import .*"sharp"/m);
  const program = `
    import Module from "node:module";
    const resolve = Module._resolveFilename;
    Module._resolveFilename = function (name, ...rest) {
      if (name === "sharp") throw new Error("no sharp here");
      return resolve.call(this, name, ...rest);
    };
    const { Image } = await import(${JSON.stringify(pathToFileURL(join(root, "dist", "index.js")).href)});
    const image = new Image(1, 1, new Uint8ClampedArray(3));
    Image.grid([image]);
    await Image.from(image);
    await image.toBuffer().catch(({ code, message }) => console.log(code, message));
  `;
  const output = execFileSync(process.execPath, ["--no-warnings", "--input-type=module", "-e", program], {
    encoding: "utf8",
  });
  expect(output).toMatch(/^IO .*npm install sharp.*no sharp here/);
});
