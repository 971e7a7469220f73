/** Items 5, 7, 8, 16 and 17 of the log: what is written, and what is left when it cannot be. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { convertCheckpoint } from "../../lib/checkpoint/index.js";
import { ImageWriter } from "../../lib/cli/image-writer.js";
import { temporaryName } from "../../lib/files/atomic-file.js";
import { Image } from "../../lib/image/image.js";
import { loadModel } from "../../lib/model/load.js";
import type { Model } from "../../lib/model/model.js";
import { type SampleOptions, sampleModel } from "../../lib/sample/index.js";
import { train } from "../../lib/train/train.js";
import { writePair } from "../support/checkpoint-files.js";
import { runCli, scratchFolder } from "../support/cli.js";
import { fakeAddon } from "../support/fake-trainer.js";
import { smallBase, smallOptions } from "../support/training.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(undefined, { threads: 1 });
});
afterAll(() => model.dispose());

describe("sample", () => {
  const sample = (output: string, more: Partial<SampleOptions> = {}) =>
    sampleModel({ model, output, perClass: 6, classes: [2, 5, 7], depth: 2, guidance: 0, ...more });

  /** Label and picture of each place, from the archive's stored bytes. */
  const placesOf = (path: string) => {
    const bytes = readFileSync(path);
    const [pixels, classes] = [bytes.indexOf("arr_0.npy"), bytes.indexOf("arr_1.npy")];
    const data = (at: number) => bytes.indexOf("\n", bytes.indexOf("\x93NUMPY", at, "latin1")) + 1;
    return Array.from({ length: 18 }, (_, place) => ({
      label: Number(bytes.readBigInt64LE(data(classes) + 8 * place)),
      picture: bytes.toString("latin1", data(pixels) + 3072 * place, data(pixels) + 3072 * (place + 1)),
    }));
  };

  test("an .npz is in an order of the seed, labels beside their pictures; class by class when that is asked for", async () => {
    const folder = scratchFolder();
    await sample(join(folder, "class.npz"), { order: "class" });
    const sorted = placesOf(join(folder, "class.npz"));
    expect(sorted.map(({ label }) => label)).toEqual([2, 5, 7].flatMap((label) => Array(6).fill(label)));
    await sample(join(folder, "a.npz"));
    const drawn = placesOf(join(folder, "a.npz"));
    expect(new Set(drawn.slice(0, 9).map(({ label }) => label)).size).toBeGreaterThan(2); // each half holds all classes
    const key = ({ label, picture }: { label: number; picture: string }) => `${label} ${picture}`;
    expect(drawn.map(key).sort()).toEqual(sorted.map(key).sort());
    expect(drawn.map(key)).not.toEqual(sorted.map(key));
    for (const index of [1, 0]) await sample(join(folder, "b.npz"), { shard: { index, of: 2 } });
    expect(readFileSync(join(folder, "b.npz")).equals(readFileSync(join(folder, "a.npz")))).toBe(true);
  });

  test("a record that has outlived its images does not block the next run", async () => {
    const folder = scratchFolder();
    const npz = join(folder, "x.npz");
    await sample(npz, { perClass: 1 });
    await expect(sample(npz, { perClass: 1, seed: 9 })).rejects.toMatchObject({ code: "INVALID_OPTION" });
    rmSync(npz);
    expect(await sample(npz, { perClass: 1, seed: 9 })).toMatchObject({ resumed: 0, complete: true });
    const png = join(folder, "png");
    await sample(png, { perClass: 1 });
    await expect(sample(png, { perClass: 1, seed: 9 })).rejects.toMatchObject({ code: "INVALID_OPTION" });
    for (const name of readdirSync(png)) if (name.endsWith(".png")) rmSync(join(png, name));
    expect(await sample(png, { perClass: 1, seed: 9 })).toMatchObject({ resumed: 0, complete: true });
  });
});

test("train begins anew where a run has left nothing but its record", async () => {
  const base = await smallBase("record");
  const options = smallOptions(base, { steps: 2 });
  await train(options, { addon: fakeAddon() });
  await expect(train({ ...options, seed: 6 }, { addon: fakeAddon() })).rejects.toMatchObject({ option: "output" });
  for (const name of readdirSync(options.output)) {
    if (/checkpoint$|^model/.test(name)) rmSync(join(options.output, name));
  }
  expect((await train({ ...options, seed: 6 }, { addon: fakeAddon() })).steps).toBe(2);
  const lines = readFileSync(join(options.output, "metrics.jsonl"), "utf8").trim().split("\n");
  expect(lines.length).toBe(2); // none of the run before
});

describe("a picture that is too large", () => {
  test.each([
    ["webp", 16_384],
    ["jpeg", 65_501],
  ] as const)("for %s is refused by its size", async (format, width) => {
    const image = new Image(width, 1, new Uint8ClampedArray(3 * width));
    await expect(image.toBuffer(format)).rejects.toMatchObject({
      code: "INVALID_OPTION",
      found: expect.stringContaining(`${width} x 1`),
    });
    expect((await image.toBuffer("png")).length).toBeGreaterThan(50);
    const fits = new Image(width - 1, 1, new Uint8ClampedArray(3 * (width - 1)));
    expect((await fits.toBuffer(format)).length).toBeGreaterThan(50);
  });

  test("as a grid is refused before anything is drawn", async () => {
    const output = join(scratchFolder(), "big.webp");
    const words = ["generate", "0-1", "--count", "500", "-o", output];
    const load = async () => {
      const opened = await loadModel(undefined, { threads: 1 });
      opened.generate = () => expect.fail("something was drawn");
      return opened;
    };
    const { code, stderr } = await runCli(words, { loadModel: load as typeof loadModel });
    expect(code).toBe(2);
    expect(stderr).toMatch(/--output: expected png or jpeg, or at most 16383 pixels .* found a picture of 16998 x 66/);
  });

  test("what cannot be written in the end is kept elsewhere, and the error says where", async () => {
    const folder = scratchFolder();
    const writer = new ImageWriter(
      { kind: "file", path: join(folder, "gone", "x.png"), abandon: async () => undefined },
      { format: "png", columns: 2, gap: 0 },
    );
    const image = new Image(2, 2, new Uint8ClampedArray(12).fill(7));
    for (const index of [0, 1]) await writer.add(image, { index, seed: 1, classIndex: 0, name: "zero" });
    const error = await writer.finish().then(
      () => expect.fail("it was written"),
      (thrown: Error & { code: string }) => thrown,
    );
    expect(error.code).toBe("IO");
    const place = /what was made is in (.+)\/$/.exec(error.message)![1]!;
    expect(readdirSync(place)).toEqual(["000000.png", "000001.png"]);
    rmSync(place, { recursive: true });
  });
});

test("temporary files that a terminated worker has left go with the next conversion; those of others stay", async () => {
  const folder = scratchFolder();
  const output = join(folder, "model.safetensors");
  const mine = temporaryName(output);
  const live = temporaryName(join(folder, "other.safetensors"));
  const dead = join(folder, ".model.safetensors.4194305-0123abcd.tmp"); // above the largest number of a process
  const foreign = join(folder, ".something.tmp");
  for (const path of [mine, live, dead, foreign]) writeFileSync(path, "half");
  const [hourAgo, minutesAgo] = [Date.now() / 1000 - 3600, Date.now() / 1000 - 120];
  utimesSync(mine, hourAgo, hourAgo);
  utimesSync(foreign, hourAgo, hourAgo);
  utimesSync(dead, minutesAgo, minutesAgo);
  utimesSync(live, minutesAgo, minutesAgo);
  await convertCheckpoint({ source: writePair("sweep", { depth: 2 }), output });
  expect([mine, dead, live, foreign].map(existsSync)).toEqual([false, false, true, true]);
  mkdirSync(join(folder, ".x.1-01234567.tmp")); // a folder is nobody's temporary file
});

test("a request beyond the pool is told how many labels at a time would fit, and which pool", async () => {
  const bytes = 10 * model.peakBytes(8);
  await using small = await loadModel(undefined, { threads: 1, kvPool: { bytes } });
  const refused = small.generate({ labels: Array(256).fill(3) }).images();
  await expect(refused).rejects.toMatchObject({
    code: "POOL_EXHAUSTED",
    message: expect.stringMatching(/10 labels at a time \(of 256\), or a kvPool\.bytes of \d+ or more$/),
  });
});
