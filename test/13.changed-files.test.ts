/**
 * Files that change. After loading, nothing depends on them; while they are read, a change is an error with a name,
 * never a signal and never other numbers. Recipes: test/reports/README.md, item 3.
 */

import { copyFileSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { describe, expect, test, vi } from "vitest";
import { convertCheckpoint, openCheckpoint } from "../lib/checkpoint/index.js";
import { withFiles } from "../lib/checkpoint/source.js";
import { bundledModelPath, type ImageLike, IoError, loadModel, loadTokenizer } from "../lib/index.js";
import { loadBinding } from "../lib/native/binding.js";
import { temporaryPath, writePair } from "./support/checkpoint-files.js";

/**
 * Between the reading of the header and that of the weights: the one moment that can be chosen from outside the core.
 */
let beforeCore: (() => void) | null = null;

vi.mock("../lib/native/binding.js", async (original) => {
  const real = await original<typeof import("../lib/native/binding.js")>();
  return {
    ...real,
    loadBinding: (path?: string) => {
      const addon = real.loadBinding(path);
      return new Proxy(addon, {
        get: (target, key, receiver) => {
          const value: unknown = Reflect.get(target, key, receiver);
          if (key !== "openModel" && key !== "openTokenizer") return value;
          return (...args: unknown[]) => {
            beforeCore?.();
            beforeCore = null;
            return (value as (...args: unknown[]) => unknown).apply(target, args);
          };
        },
      });
    },
  };
});

const SIDE = 32;
const picture: ImageLike = {
  width: SIDE,
  height: SIDE,
  data: Uint8ClampedArray.from({ length: 3 * SIDE * SIDE }, (_, index) => (7 * index) % 256),
};

function copy(name: string): string {
  const path = temporaryPath(name);
  copyFileSync(bundledModelPath(), path);
  return path;
}

/** Every byte becomes another; size and name stay. */
function scramble(path: string): void {
  writeFileSync(
    path,
    readFileSync(path).map((byte) => byte ^ 0x55),
  );
}

describe("after loading", () => {
  test.each<[string, (path: string) => void]>([
    ["shorter", (path) => truncateSync(path, 1000)],
    ["empty", (path) => truncateSync(path, 0)],
    ["overwritten", scramble],
  ])("a file that becomes %s changes nothing", async (name, change) => {
    const reference = await loadModel();
    const path = copy(`after-${name}.safetensors`);
    const [model, tokenizer] = [await loadModel(path), await loadTokenizer(path)];
    try {
      expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(path);
      change(path);
      const expected = await reference.encode(picture);
      expect((await model.encode(picture)).flat).toEqual(expected.flat);
      expect((await tokenizer.encode(picture)).flat).toEqual(expected.flat);
      const draw = { labels: 3, seed: 5 };
      const [image] = await model.generate(draw).images();
      expect(image!.data).toEqual((await reference.generate(draw).images())[0]!.data);
    } finally {
      await Promise.all([reference, model, tokenizer].map((opened) => opened.dispose()));
    }
  });
});

/** The error of opening a pair in the core that `change` happens to at the first word of progress. */
async function changeInTheMiddle(pair: { var: string; tokenizer: string }, change: () => void): Promise<unknown> {
  const { files, stamps, tensors, config } = await openCheckpoint(pair);
  const rest = { threads: 1, kvBytes: 1 << 22, kvDtype: "f32", strategy: "even", cuda: null } as const;
  let changed = false;
  const opening = loadBinding().openModel({ files, stamps, tensors, config, ...rest }, () => {
    if (!changed) change();
    changed = true;
  });
  return opening.then(
    (model) => void model.dispose(),
    (error: unknown) => error,
  );
}

describe("while loading", () => {
  test.each<[string, (path: string) => void, RegExp]>([
    ["shorter", (path) => truncateSync(path, 4096 * 40), /changed between .* it has 163840 bytes, it had \d+/],
    ["longer", (path) => writeFileSync(path, Buffer.alloc(10), { flag: "a" }), /it has \d+ bytes, it had \d+/],
    ["newer", (path) => utimesSync(path, 1, 1), /changed between .*: it was written to/],
  ])("a file that becomes %s before its weights are read", async (name, change, message) => {
    for (const load of [loadModel, loadTokenizer]) {
      const path = copy(`before-${name}.safetensors`);
      beforeCore = () => change(path);
      const loading = load(path);
      await expect(loading).rejects.toThrow(IoError);
      await expect(loading).rejects.toThrow(message);
      await expect(loading).rejects.toThrow(path);
    }
  });

  // The core reads on while this thread hears of its progress: the change comes at another place each time, and the
  // answer is the same, because the file is looked at once more when all has been read.
  test("a file that changes at any time in the middle", async () => {
    const pair = writePair("middle", { width: 512, heads: 8, depth: 6, mlpWidth: 2048 });
    const changes = [
      () => truncateSync(pair.var, 4096 * 40),
      () => writeFileSync(pair.var, Buffer.alloc(1 << 20, 255), { flag: "r+" }), // NaN
      () => utimesSync(pair.var, 1, 1),
    ];
    const original = readFileSync(pair.var);
    for (const change of changes) {
      let caught: unknown;
      for (let attempt = 0; attempt < 5 && caught === undefined; attempt++) {
        writeFileSync(pair.var, original);
        caught = await changeInTheMiddle(pair, change); // undefined: the change came when all had been read already
      }
      expect(caught).toMatchObject({ code: "IO" });
    }
  });

  test("an unchanged file with a time before 1970 loads", async () => {
    const path = copy("old.safetensors");
    utimesSync(path, -1.5, -1.5);
    await (await loadModel(path)).dispose();
  });
});

describe("while converting", () => {
  test.each<[string, (path: string, size: number) => void]>([
    ["shorter", (path, size) => truncateSync(path, size - 1)],
    ["newer", (path) => utimesSync(path, 1, 1)],
    ["overwritten", scramble],
  ])("a file that becomes %s", async (name, change) => {
    const path = copy(`converting-${name}.safetensors`);
    const output = temporaryPath(`converted-${name}.safetensors`);
    let pieces = 0;
    const converting = convertCheckpoint({
      source: path,
      output,
      dtype: "bf16",
      onProgress: () => {
        if (++pieces === 5) change(path, statSync(path).size);
      },
    });
    await expect(converting).rejects.toThrow(IoError);
    await expect(converting).rejects.toThrow(/changed while it was read|became shorter/);
    expect(() => statSync(output)).toThrow(/ENOENT/);
  });

  test("an error that a change caused is not blamed on the file", async () => {
    const path = copy("blame.safetensors");
    const failing = withFiles([path], async () => {
      utimesSync(path, 1, 1);
      throw new TypeError("the header makes no sense");
    });
    await expect(failing).rejects.toThrow(/changed while it was read/);
  });
});
