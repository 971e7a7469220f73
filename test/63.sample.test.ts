/** sampleModel: the same images whoever makes them. */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { locateData, readZipDirectory } from "../lib/checkpoint/zip.js";
import { Image } from "../lib/image/image.js";
import { loadModel } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import { type SampleOptions, sampleModel } from "../lib/sample/index.js";
import { writeNpz } from "../lib/sample/npz.js";
import { consecutive, counterOf, Work } from "../lib/sample/work.js";
import { scratch } from "./support/token-files.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(undefined, { threads: 2 });
});
afterAll(() => model.dispose());

const FAST = { depth: 2, guidance: 0 };

function sample(output: string, options: Partial<SampleOptions> = {}) {
  return sampleModel({ model, output, perClass: 3, classes: [2, 5, 7], ...FAST, ...options });
}

/** Hash of every picture's pixels by file name. */
async function pictures(folder: string): Promise<Record<string, string>> {
  const names = readdirSync(folder).filter((name) => name.endsWith(".png"));
  const hash = async (name: string) => {
    const { data } = await Image.from(join(folder, name));
    return [name, createHash("sha256").update(data).digest("hex")] as const;
  };
  return Object.fromEntries(await Promise.all(names.sort().map(hash)));
}

describe("PNG files", () => {
  test("one per image, named by class and number, all different, from the counters of class and number", async () => {
    const folder = join(scratch(), "new", "out");
    const result = await sample(folder, { seed: 11 });
    expect(result).toMatchObject({
      format: "png",
      total: 9,
      images: 9,
      resumed: 0,
      complete: true,
      classes: [2, 5, 7],
    });
    const found = await pictures(folder);
    expect(Object.keys(found)).toEqual(
      [2, 5, 7].flatMap((digit) => [0, 1, 2].map((index) => `${digit}-00000${index}.png`)),
    );
    expect(new Set(Object.values(found)).size).toBe(9);
    const generation = model.generate({ ...FAST, labels: [5, 5], seed: 11, firstImage: 5 * 2 ** 32 + 1 });
    for (const [index, image] of (await generation.images()).entries()) {
      const hash = createHash("sha256").update(image.data).digest("hex");
      expect(found[`5-00000${index + 1}.png`]).toBe(hash);
    }
  });

  test("shards, batches, order of the classes and more images per class change nothing", async () => {
    const whole = join(scratch(), "whole");
    await sample(whole);
    const reference = await pictures(whole);
    const folder = join(scratch(), "shards");
    const results = [];
    for (const index of [2, 0, 3, 1]) {
      const options = { shard: { index, of: 4 }, batch: 1 + index, classes: [7, "five", 2, 2] };
      results.push(await sample(folder, options));
    }
    expect(results.map(({ complete }) => complete)).toEqual([false, false, false, true]);
    expect(results.reduce((sum, { images }) => sum + images, 0)).toBe(9);
    expect(await pictures(folder)).toEqual(reference);
    const more = await sample(folder, { perClass: 4 });
    expect(more).toMatchObject({ images: 12, resumed: 9 });
    expect(await pictures(folder)).toMatchObject(reference);
    const fewer = join(scratch(), "fewer");
    await sample(fewer, { classes: [7], perClass: 1 });
    expect(await pictures(fewer)).toEqual({ "7-000000.png": reference["7-000000.png"] });
  });

  test("what is there is not made again; what is missing is", async () => {
    const folder = join(scratch(), "out");
    await sample(folder);
    const reference = await pictures(folder);
    rmSync(join(folder, "5-000001.png"));
    const done: number[] = [];
    const result = await sample(folder, { onProgress: (report) => done.push(report.done) });
    expect(result).toMatchObject({ images: 9, resumed: 8 });
    expect(done).toEqual([8, 9]);
    expect(await pictures(folder)).toEqual(reference);
  });

  test("stopped in the middle: whole files only, and the rest follows", async () => {
    const folder = join(scratch(), "out");
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => {
      if (done === 4) stop.abort(new Error("enough"));
    };
    const running = sample(folder, { batch: 2, signal: stop.signal, onProgress });
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    expect(Object.keys(await pictures(folder)).length).toBe(4);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(await sample(folder)).toMatchObject({ resumed: 4, complete: true });
    const undisturbed = join(scratch(), "out");
    await sample(undisturbed);
    expect(await pictures(folder)).toEqual(await pictures(undisturbed));
  });
});

/** Arrays of an .npz, by a reader of zip archives and of NumPy's format that shares nothing with the writer. */
async function readNpz(path: string) {
  const bytes = readFileSync(path);
  const source = { path, size: bytes.length, read: async (at: number, n: number) => bytes.subarray(at, at + n) };
  const arrays: Record<string, { descr: string; shape: number[]; data: Buffer }> = {};
  for (const [name, entry] of await readZipDirectory(source)) {
    const at = await locateData(source, entry);
    const data = bytes.subarray(at, at + entry.size);
    expect(crc32(data)).toBe(entry.crc32);
    expect(data.subarray(0, 8).toString("latin1")).toBe("\x93NUMPY\x01\x00");
    const length = data.readUInt16LE(8);
    expect((10 + length) % 64).toBe(0);
    const header = data.subarray(10, 10 + length).toString("latin1");
    const match = /^\{'descr': '(.+)', 'fortran_order': False, 'shape': \(([\d, ]+)\), \} *\n$/.exec(header)!;
    const shape = match[2]!.split(",").filter(Boolean).map(Number);
    arrays[name] = { descr: match[1]!, shape, data: data.subarray(10 + length) };
  }
  return arrays;
}

describe("npz", () => {
  test('with order "class" arr_0 holds the pixels of the PNG files, class by class, arr_1 the classes', async () => {
    const folder = scratch();
    await sample(join(folder, "png"));
    const made = await sample(join(folder, "out.npz"), { order: "class" });
    expect(made).toMatchObject({ format: "npz", complete: true, images: 9 });
    expect(readdirSync(folder).sort()).toEqual(["out.npz", "out.npz.json", "png"]);
    const arrays = await readNpz(join(folder, "out.npz"));
    expect(Object.keys(arrays)).toEqual(["arr_0.npy", "arr_1.npy"]);
    const [pixels, classes] = [arrays["arr_0.npy"]!, arrays["arr_1.npy"]!];
    expect(pixels).toMatchObject({ descr: "|u1", shape: [9, 32, 32, 3] });
    expect(classes).toMatchObject({ descr: "<i8", shape: [9] });
    expect(Array.from({ length: 9 }, (_, i) => Number(classes.data.readBigInt64LE(8 * i)))).toEqual([
      2, 2, 2, 5, 5, 5, 7, 7, 7,
    ]);
    const names = readdirSync(join(folder, "png")).filter((name) => name.endsWith(".png"));
    for (const [index, name] of names.sort().entries()) {
      const { data } = await Image.from(join(folder, "png", name));
      expect(pixels.data.subarray(index * 3072, (index + 1) * 3072).equals(Uint8Array.from(data))).toBe(true);
    }
    expect(pixels.data.length).toBe(9 * 3072);
  });

  test("any sharding in any order gives the same file to the byte", async () => {
    const folder = scratch();
    await sample(join(folder, "whole.npz"));
    const whole = readFileSync(join(folder, "whole.npz"));
    const path = join(folder, "parts.npz");
    expect(await sample(path, { shard: { index: 1, of: 3 }, batch: 1 })).toMatchObject({ complete: false, images: 3 });
    // Overlaps.
    expect(await sample(path, { shard: { index: 0, of: 2 } })).toMatchObject({ complete: false, resumed: 1 });
    expect(await sample(path, { shard: { index: 2, of: 3 } })).toMatchObject({ complete: true });
    expect(readFileSync(path).equals(whole)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(["parts.npz", "parts.npz.json", "whole.npz", "whole.npz.json"]);
    expect(await sample(path)).toMatchObject({ resumed: 9, complete: true });
  });

  test("stopped in the middle: what was drawn is kept; a damaged part is drawn again", async () => {
    const folder = scratch();
    const path = join(folder, "out.npz");
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => {
      if (done === 4) stop.abort(new Error("enough"));
    };
    const running = sample(path, { batch: 2, signal: stop.signal, onProgress });
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    expect(readdirSync(`${path}.parts`)).toEqual(["0-4.rgb"]);
    writeFileSync(join(`${path}.parts`, "7-2.rgb"), "too short");
    expect(await sample(path)).toMatchObject({ resumed: 4, complete: true });
    const other = join(folder, "other.npz");
    await sample(other);
    expect(readFileSync(path).equals(readFileSync(other))).toBe(true);
  });

  test("entries beyond 4 GiB: sizes and offsets are in ZIP64 fields", async () => {
    const path = join(scratch(), "large.zip");
    const size = 2 ** 32 + 2 ** 26;
    // The library's checksum is JavaScript: half a minute for so many zeros.
    const checksum = createRequire(createRequire(import.meta.url).resolve("yazl"))("buffer-crc32") as Record<
      string,
      typeof crc32
    >;
    checksum.unsigned = crc32;
    const writes: { position: number; bytes: Buffer }[] = [];
    let end = 0;
    // A file that keeps what is not zeros: the archive is read back through it.
    const file = {
      write: async (bytes: Uint8Array, from: number, length: number) => {
        if (length < 2 ** 19) writes.push({ position: end, bytes: Buffer.from(bytes.subarray(from, from + length)) });
        end += length;
        await turn(); // as a real file does
        return { bytesWritten: length, buffer: bytes };
      },
    };
    const chunk = new Uint8Array(2 ** 26);
    const data = Array.from({ length: size / chunk.length }, () => chunk);
    const word = { descr: "|u1", shape: [4], bytes: 4, data: [Buffer.from("word")] };
    await writeNpz(file as never, [
      { name: "zeros", descr: "|u1", shape: [size], bytes: size, data },
      { name: "word", ...word },
    ]);
    const read = async (at: number, length: number) => {
      const out = Buffer.alloc(length);
      for (const { position, bytes } of writes) {
        for (let i = 0; i < bytes.length; i++) {
          if (position + i >= at && position + i < at + length) out[position + i - at] = bytes[i]!;
        }
      }
      return out;
    };
    const source = { path, size: end, read };
    const entries = await readZipDirectory(source);
    expect(entries.get("zeros.npy")?.size).toBe(size + 128);
    const at = await locateData(source, entries.get("word.npy")!);
    expect(at).toBeGreaterThan(size);
    expect((await read(at + entries.get("word.npy")!.size - 4, 4)).toString()).toBe("word");
    const short = { ...word, name: "short", bytes: 5 };
    await expect(writeNpz(file as never, [short])).rejects.toThrow(/4 bytes, 5 were announced/);
  }, 300_000);
});

describe("refusals", () => {
  test("images of other settings are not mixed in", async () => {
    const folder = join(scratch(), "out");
    await sample(folder, { perClass: 1 });
    const refused = (options: Partial<SampleOptions>, what: string) =>
      expect(sample(folder, { perClass: 1, ...options })).rejects.toMatchObject({
        code: "INVALID_OPTION",
        option: "output",
        found: expect.stringContaining(`another ${what}`),
      });
    await refused({ seed: 1 }, "seed");
    await refused({ guidance: 1 }, "guidance");
    await refused({ depth: { bridge: 2, subnet: 2 } }, "depth");
    await refused({ topK: 5 }, "topK");
    await refused({ modelId: "retrained" }, "model");
    const before = await pictures(folder);
    await sample(folder, { perClass: 1, seed: 1, overwrite: true });
    const after = await pictures(folder);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(Object.values(after)).not.toEqual(Object.values(before));
    const npz = join(scratch(), "out.npz");
    await sample(npz, { perClass: 1 });
    await expect(sample(npz, { perClass: 2 })).rejects.toMatchObject({ code: "INVALID_OPTION", option: "output" });
  });

  test("options", async () => {
    const output = join(scratch(), "out");
    const refused = async (options: object, option: string) => {
      await expect(sample(output, options as never)).rejects.toMatchObject({ code: "INVALID_OPTION", option });
    };
    await refused({ model: {} }, "model");
    await refused({ output: "" }, "output");
    await refused({ perClass: 0 }, "perClass");
    await refused({ perClass: 2 ** 26 }, "perClass");
    await refused({ classes: 3 }, "classes");
    await refused({ classes: [10] }, "classes");
    await refused({ classes: ["ten"] }, "classes[0]");
    await refused({ depth: { deadlineMs: 5 } }, "depth");
    await refused({ depth: 9 }, "depth");
    await refused({ topP: 2 }, "topP");
    await refused({ shard: { index: 2, of: 2 } }, "shard.index");
    await refused({ shard: { index: 0, of: 0 } }, "shard.of");
    await refused({ shard: { index: 0, of: 2 }, overwrite: true }, "overwrite");
    await refused({ seed: 1.5 }, "seed");
    await refused({ labels: [1] }, "labels");
    await expect(sampleModel(undefined as never)).rejects.toMatchObject({ code: "INVALID_OPTION" });
  });

  test("a place that cannot be written", async () => {
    const folder = scratch();
    writeFileSync(join(folder, "file"), "");
    await expect(sample(join(folder, "file"))).rejects.toMatchObject({ code: "IO" });
    await expect(sample(join(folder, "nowhere", "out.npz"))).rejects.toMatchObject({ code: "IO" });
    mkdirSync(join(folder, "out.npz.json"));
    await expect(sample(join(folder, "out.npz"))).rejects.toMatchObject({ code: "IO" });
  });
});

test("every image belongs to exactly one shard, in equal parts, and counters are distinct", () => {
  const work = new Work([0, 3, 999], 7);
  for (const of of [1, 2, 5, 21, 40]) {
    const ranges = Array.from({ length: of }, (_, index) => work.rangeOf({ index, of }));
    expect(ranges[0]![0]).toBe(0);
    expect(ranges.at(-1)![1]).toBe(21);
    for (const [index, [start]] of ranges.entries()) if (index > 0) expect(start).toBe(ranges[index - 1]![1]);
    const sizes = ranges.map(([start, end]) => end - start);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  }
  const all = Array.from({ length: work.total }, (_, position) => work.at(position));
  expect(new Set(all.map(counterOf)).size).toBe(21);
  expect(consecutive(all).map((run) => run.length)).toEqual([7, 7, 7]);
  expect(consecutive([all[0]!, all[2]!, all[3]!]).map((run) => run.length)).toEqual([1, 2]);
  expect(Number.isSafeInteger(counterOf({ classIndex: 2 ** 20, index: 2 ** 26, position: 0 }))).toBe(true);
});
