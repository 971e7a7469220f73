/** `nextscale generate` over a model made of timers: files, names, grids, refusals, output, Ctrl-C. */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { OutputStream } from "../lib/cli/context.js";
import { Interrupt } from "../lib/cli/report.js";
import { Image } from "../lib/image/image.js";
import type { loadModel } from "../lib/model/load.js";
import { type CliOptions, runCli, scratchFolder } from "./support/cli.js";
import { type FakeEngine, fakeModel } from "./support/fake-engine.js";

interface Opened {
  engine: FakeEngine;
  /** What loadModel was called with. */
  calls: Parameters<typeof loadModel>[];
  options: CliOptions;
}

function opener(parts: Parameters<typeof fakeModel>[0] = {}): Opened {
  const { model, engine } = fakeModel({ previewMatrix: new Float32Array(15), ...parts });
  const calls: Parameters<typeof loadModel>[] = [];
  const load: typeof loadModel = async (...call) => {
    calls.push(call);
    call[1]?.onProgress?.(0.5);
    return model;
  };
  return { engine, calls, options: { loadModel: load } };
}

async function generate(words: string[], opened = opener(), options: CliOptions = {}) {
  const result = await runCli(["generate", ...words], { ...opened.options, ...options });
  return { ...result, ...opened };
}

describe("outputs", () => {
  test("one label to a file: that image, in the format of the ending", async () => {
    const folder = scratchFolder();
    const path = join(folder, "seven.webp");
    const { code, stdout, stderr, engine, calls } = await generate(["7", "--seed", "42", "-o", path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^.*seven\.webp: 1 image, seed 42, [\d.]+ m?s\n$/);
    expect(await Image.from(path)).toMatchObject({ width: 8, height: 8 });
    expect(engine.requests.map(({ labels, seed }) => [[...labels], seed])).toEqual([[[7], 42n]]);
    expect(engine.disposals).toBe(1);
    expect(calls[0]![0]).toBeUndefined();
  });

  test("without labels the bundled model draws 0 to 9, as a grid of two rows of five", async () => {
    const path = join(scratchFolder(), "digits.png");
    const { code, engine } = await generate(["-o", path, "--gap", "1"]);
    expect(code).toBe(0);
    expect(engine.requests.flatMap(({ labels }) => [...labels])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const grid = await Image.from(path);
    expect(grid).toMatchObject({ width: 5 * 9 - 1, height: 2 * 9 - 1 });
    const at = (x: number, y: number) => grid.data[(y * grid.width + x) * 3];
    expect([at(0, 0), at(9, 0), at(0, 9), at(8, 0), at(4 * 9, 9)]).toEqual([0, 1, 5, 0, 9]);
  });

  test("several per label: one row per label", async () => {
    const path = join(scratchFolder(), "a.png");
    await generate(["2", "6", "--count", "3", "-o", path, "--gap", "0"]);
    const grid = await Image.from(path);
    expect(grid).toMatchObject({ width: 24, height: 16 });
    expect([grid.data[0], grid.data[16 * 3], grid.data[24 * 8 * 3]]).toEqual([2, 2, 6]);
  });

  test("to a folder: label-seed-index, made when it is missing, with a grid when asked", async () => {
    const folder = join(scratchFolder(), "new", "out");
    const { code, stdout } = await generate([
      "two",
      "3",
      "unconditional",
      "-n",
      "2",
      "-s",
      "18446744073709551615",
      "-o",
      `${folder}/`,
      "--grid",
      "--format",
      "jpeg",
      "--json",
    ]);
    expect(code).toBe(0);
    const seed = "18446744073709551615";
    const names = [
      `two-${seed}-0.jpg`,
      `two-${seed}-1.jpg`,
      `three-${seed}-2.jpg`,
      `three-${seed}-3.jpg`,
      `unconditional-${seed}-4.jpg`,
      `unconditional-${seed}-5.jpg`,
    ];
    expect(readdirSync(folder).sort()).toEqual([...names, "grid.jpg"].sort());
    const json = JSON.parse(stdout);
    expect(json.images.map(({ path }: { path: string }) => path)).toEqual(names.map((name) => join(folder, name)));
    expect(json).toMatchObject({ seed, grid: join(folder, "grid.jpg") });
  });

  test("an existing folder needs no slash; existing files are replaced", async () => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "three-5-0.png"), "old");
    const { code } = await generate(["3", "-s", "5", "-o", folder]);
    expect(code).toBe(0);
    expect(readdirSync(folder)).toEqual(["three-5-0.png"]);
    expect((await Image.from(join(folder, "three-5-0.png"))).data[0]).toBe(3);
  });
});

describe("what it asks of the model", () => {
  test("options become the library's", async () => {
    const words = ["1", "-o", join(scratchFolder(), "a.png"), "--guidance", "3", "--top-k", "7", "--top-p", "0.5"];
    const { engine, calls } = await generate([
      ...words,
      "--depth",
      "4",
      "--bridge",
      "2",
      "--threads",
      "3",
      "--kv-dtype",
      "f16",
      "--device",
      "cpu",
      "-m",
      "x.safetensors",
    ]);
    expect(calls[0]).toMatchObject(["x.safetensors", { threads: 3, device: "cpu", kvPool: { dtype: "f16" } }]);
    expect(engine.requests[0]).toMatchObject({ topK: 7, topP: 0.5, deadlineMs: 0, preview: "none" });
    expect([...engine.requests[0]!.guidance]).toEqual([0, 1, 2, 3]);
    expect([...engine.requests[0]!.depths]).toEqual([8, 8, 4, 4]);
  });

  test("depth as a list, or as a deadline", async () => {
    const path = join(scratchFolder(), "a.png");
    const listed = await generate(["1", "-o", path, "--depth", "8,8,4,2", "--guidance", "0,1,1,0"]);
    expect([...listed.engine.requests[0]!.depths]).toEqual([8, 8, 4, 2]);
    expect([...listed.engine.requests[0]!.guidance]).toEqual([0, 1, 1, 0]);
    const timed = await generate(["1", "-o", path, "--deadline", "50", "--bridge", "1"]);
    expect(timed.engine.requests[0]).toMatchObject({ deadlineMs: 50 });
  });

  test("--var and --tokenizer make a pair", async () => {
    const { calls } = await generate([
      "1",
      "-o",
      join(scratchFolder(), "a.png"),
      "--var",
      "v.pth",
      "--tokenizer",
      "t.pth",
    ]);
    expect(calls[0]![0]).toEqual({ var: "v.pth", tokenizer: "t.pth" });
  });

  test("many images run in batches that the pool holds, each image with the draws of its number", async () => {
    const path = join(scratchFolder(), "a.png");
    const { engine, stdout } = await generate(["0-4", "-o", path, "--json"]); // 64 of the pool's 100 bytes each
    const json = JSON.parse(stdout);
    expect(engine.requests.map(({ labels, firstImage }) => [[...labels], firstImage])).toEqual(
      [0, 1, 2, 3, 4].map((i) => [[i], i]),
    );
    expect(new Set(engine.requests.map(({ seed }) => seed))).toEqual(new Set([BigInt(json.seed)]));
    expect(json.scales.filter(({ batch }: { batch: number }) => batch === 4).length).toBe(4);
    const whole = await generate(["0-4", "-o", path, "--batch", "3"]);
    expect(whole.engine.requests.map(({ labels, firstImage }) => [labels.length, firstImage])).toEqual([
      [3, 0],
      [2, 3],
    ]);
    const shallow = await generate(["0-4", "-o", path, "--depth", "2"]); // 16 of 100 each
    expect(shallow.engine.requests.map(({ labels }) => labels.length)).toEqual([5]);
  });
});

describe("what it prints", () => {
  test("--json: one document on stdout, nothing else", async () => {
    const path = join(scratchFolder(), "a.png");
    const { stdout, stderr } = await generate(["3", "-s", "9", "-o", path, "--json"]);
    expect(stderr).toBe("");
    const json = JSON.parse(stdout);
    expect(json).toMatchObject({ model: "digits", device: "cpu", seed: 9, grid: null, batchSize: 1 });
    expect(json.images).toEqual([{ index: 0, seed: 9, classIndex: 3, name: "three", path, width: 8, height: 8 }]);
    expect(
      json.scales.map(({ index, side, depth, reason }: Record<string, unknown>) => [index, side, depth, reason]),
    ).toEqual([0, 1, 2, 3].map((k) => [k, k + 1, 8, "plan"]));
    for (const name of ["loadMs", "generateMs", "decodeMs", "writeMs", "totalMs"])
      expect(json.timings[name]).toBeGreaterThanOrEqual(0);
  });

  test("a bar with scale, side, depth and time on a terminal only; plain lines with --verbose", async () => {
    const path = join(scratchFolder(), "a.png");
    const live = await generate(["3", "-o", path], opener(), { tty: true });
    expect(live.stderr).toMatch(/scale 3\/4 {2}side 3 {2}depth 8 {2}[\d.]+ ms/);
    expect(live.stderr.endsWith("\r\x1b[0J")).toBe(true);
    const plain = await generate(["3", "-o", path, "--verbose"]);
    expect(plain.stderr).toBe([1, 2, 3, 4].map((k) => `scale ${k}/4  side ${k}  depth 8  1.0 ms\n`).join(""));
  });

  test("--show: previews while it works and the picture at the end; without a terminal, characters", async () => {
    const live = await generate(["9", "--show"], opener(), { tty: true });
    expect(live.code).toBe(0);
    expect(live.engine.requests[0]!.preview).toBe("linear");
    expect(live.stderr).toContain("\x1b[38;2;3;3;3;48;2;3;3;3m▀"); // the fake preview of the last scale
    expect(live.stdout).toContain("\x1b[38;2;9;9;9;48;2;9;9;9m▀");
    expect(existsSync("nextscale.png")).toBe(false);
    const piped = await generate(["9", "--show"]);
    expect(piped.engine.requests[0]!.preview).toBe("none");
    expect(piped.stdout).not.toContain("\x1b");
    const json = await generate(["9", "--show", "--json"], opener(), { tty: true });
    expect(JSON.parse(json.stdout).images[0].path).toBeNull();
  });
});

describe("refusals come before any work", () => {
  const cases: [name: string, words: string[], code: number, message: RegExp][] = [
    [
      "a path through a file",
      ["3", "-o", "FOLDER/file/a.png"],
      1,
      /error \[IO\]: cannot write .*a\.png: .*file is not a folder/,
    ],
    ["a missing folder", ["3", "-o", "FOLDER/none/a.png"], 1, /error \[IO\]: .*none does not exist/],
    ["a folder named like a file", ["3", "-o", "FOLDER/folder.png/x.gif"], 2, /--output: expected a name that ends in/],
    ["a folder through a file", ["3", "-o", "FOLDER/file/out/"], 1, /error \[IO\]: cannot make the folder/],
    ["an unknown ending", ["3", "-o", "FOLDER/a.gif"], 2, /error \[INVALID_OPTION\]: --output: .*\.png/],
    ["half a pair", ["3", "--var", "v.pth"], 2, /--tokenizer/],
    ["a pair beside a model", ["3", "--model", "m", "--var", "v.pth"], 2, /cannot be used with option/],
    ["no labels for a model of one's own", ["-m", "m"], 2, /at least one class number/],
    ["a bridge alone", ["3", "--bridge", "2"], 2, /--bridge: expected --depth n/],
    ["a depth beside a deadline", ["3", "--depth", "4", "--deadline", "9"], 2, /cannot be used with option/],
    ["a count of nothing", ["3", "--count", "0"], 2, /--count <n>' argument '0' is invalid/],
    ["a word for a number", ["3", "--guidance", "high"], 2, /Expected a number/],
    ["a fraction for an integer", ["3", "--top-k", "1.5"], 2, /Expected an integer/],
    ["a seed beyond 64 bits", ["3", "--seed", "18446744073709551616"], 2, /2\^64-1/],
    ["a range that runs backwards", ["9-3"], 2, /a range such as/],
    ["an unknown dtype", ["3", "--kv-dtype", "f64"], 2, /f32, f16, bf16/],
  ];
  test.each(cases)("%s", async (_, words, expected, message) => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "file"), "");
    mkdirSync(join(folder, "folder.png"));
    const { code, stderr, stdout, calls } = await generate(words.map((word) => word.replace("FOLDER", folder)));
    expect(stderr).toMatch(message);
    expect({ code, stdout, calls }).toEqual({ code: expected, stdout: "", calls: [] });
    expect(readdirSync(folder).sort()).toEqual(["file", "folder.png"]);
  });

  const late: [name: string, words: string[], message: RegExp][] = [
    [
      "a label out of range",
      ["3", "11"],
      /error \[INVALID_OPTION\]: label: expected a class number in 0\.\.9, a name, or unconditional, found 11/,
    ],
    ["an unknown name, with a suggestion", ["thre"], /label: .*did you mean "three"\?/],
    ["a depth that the model does not have", ["3", "--depth", "9"], /--depth: expected an integer in 2\.\.8, found 9/],
    [
      "a bridge longer than the pyramid",
      ["3", "--depth", "4", "--bridge", "5"],
      /--bridge: expected an integer in 0\.\.4/,
    ],
    ["a top-k beyond the codebook", ["3", "--top-k", "33"], /--top-k: /],
  ];
  test.each(late)("%s", async (_, words, message) => {
    const folder = join(scratchFolder(), "out");
    const { code, stderr, engine } = await generate([...words, "-o", `${folder}/`]);
    expect(stderr).toMatch(message);
    expect(stderr).toContain("hint: ");
    expect(code).toBe(2);
    expect(engine.requests).toEqual([]);
    expect(engine.disposals).toBe(1);
    expect(existsSync(folder)).toBe(false); // it was made for nothing
  });

  test("--json gives the failure to scripts, too", async () => {
    const { code, stdout } = await generate(["eleven", "-o", join(scratchFolder(), "a.png"), "--json"]);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: "INVALID_OPTION", message: expect.stringContaining("eleven") },
    });
    const usage = await runCli(["generate", "--cuont", "3", "--json"]);
    expect(JSON.parse(usage.stdout).error).toMatchObject({
      code: "INVALID_OPTION",
      message: expect.stringContaining("--count"),
    });
  });
});

/** A stream that pulls the plug at its n-th line. */
function abortAfter(lines: number, controller: AbortController, reason: Interrupt): OutputStream {
  let seen = 0;
  return {
    write: () => {
      if (++seen === lines) controller.abort(reason);
      return true;
    },
  };
}

describe("failures in mid-run", () => {
  test("a failure of the core: code, hint, exit 1, no file", async () => {
    const folder = scratchFolder();
    const opened = opener();
    opened.engine.failure = {
      code: "POOL_EXHAUSTED",
      message: "needs 9 bytes, has 5",
      neededBytes: 9,
      availableBytes: 5,
      deepestFit: 4,
    };
    const { code, stderr } = await generate(["3", "-o", join(folder, "a.png")], opened);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error \[POOL_EXHAUSTED\]: needs 9 bytes, has 5; so would a kvPool\.bytes of 9 or more\nhint: --depth 4 would fit/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test("stacks are for those who ask", async () => {
    const path = join(scratchFolder(), "a.png");
    const words = ["thre", "-o", path];
    expect((await generate(words)).stderr).not.toContain("    at ");
    expect((await generate(words, opener(), { env: { NEXTSCALE_DEBUG: "1" } })).stderr).toContain("    at ");
  });

  test("Ctrl-C at every scale: exit 130, the model disposed, no file, no folder", async () => {
    for (let stopAt = 0; stopAt < 4; stopAt++) {
      const folder = scratchFolder();
      const opened = opener();
      opened.engine.scaleMs = 5;
      const controller = new AbortController();
      const output = stopAt % 2 === 0 ? join(folder, "a.png") : `${join(folder, "deep", "out")}/`;
      const stderr = abortAfter(stopAt + 1, controller, new Interrupt("SIGINT", 130));
      const signal = controller.signal;
      const result = await generate(["3", "-o", output, "--verbose"], opened, { stderr, signal });
      expect(result.code).toBe(130);
      expect(opened.engine.disposals).toBe(1);
      expect(opened.engine.running).toBe(0);
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  test("Ctrl-C between batches keeps the finished images whole", async () => {
    const folder = scratchFolder();
    const opened = opener();
    const controller = new AbortController();
    const stderr = abortAfter(7, controller, new Interrupt("SIGTERM", 143));
    const { code } = await generate(["0-4", "-s", "1", "-o", folder, "--verbose"], opened, {
      stderr,
      signal: controller.signal,
    });
    expect(code).toBe(143);
    expect(readdirSync(folder)).toEqual(["zero-1-0.png"]);
    expect(await Image.from(join(folder, "zero-1-0.png"))).toMatchObject({ width: 8 });
  });
});
