/** The built command in processes of its own, over the real core and the digits model. */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { poolPeakBytes } from "../lib/cli/memory.js";
import { Image } from "../lib/image/image.js";
import { loadModel } from "../lib/model/load.js";
import { scratchFolder } from "./support/cli.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = join(root, "dist", "cli.js");
const digits = join(root, "test", "golden", "digits");
const PAIR = ["--var", join(digits, "var.pth"), "--tokenizer", join(digits, "vae.pth")];

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Starts `nextscale ...`; `onStderr` sees everything so far, each time something comes. */
function nextscale(
  words: string[],
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
      onStderr?.(stderr, (signal) => child.kill(signal));
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

test("the bin starts by itself: shebang, no Node warnings", async () => {
  expect(readFileSync(bin, "utf8").split("\n", 1)[0]).toBe("#!/usr/bin/env node");
  const { code, stdout, stderr } = await nextscale(["--version"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

describe("generate", () => {
  test("writes a grid of digits, and says what it did", async () => {
    const path = join(scratchFolder(), "digits.png");
    const { code, stdout, stderr } = await nextscale(["generate", "0-9", ...PAIR, "-s", "1", "-o", path, "--json"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const json = JSON.parse(stdout);
    expect(json.scales.length).toBe(6);
    expect(json.scales.map(({ side }: { side: number }) => side)).toEqual([1, 2, 3, 4, 6, 8]);
    expect(await Image.from(path)).toMatchObject({ width: 5 * 34 - 2, height: 2 * 34 - 2 });
  });

  test("the same seed gives the same pictures, whatever the batch", async () => {
    const folder = scratchFolder();
    const run = (name: string, batch: string) =>
      nextscale([
        "generate",
        "3",
        "7",
        "-n",
        "2",
        ...PAIR,
        "-s",
        "5",
        "--batch",
        batch,
        "-o",
        join(folder, `${name}/`),
      ]);
    await run("one", "1");
    await run("three", "3");
    await run("four", "4");
    const names = readdirSync(join(folder, "one"));
    expect(names.sort()).toEqual(["3-5-0.png", "3-5-1.png", "7-5-2.png", "7-5-3.png"]);
    const read = (folderName: string, name: string) => readFileSync(join(folder, folderName, name));
    for (const name of names) {
      expect(read("three", name).equals(read("one", name)), name).toBe(true);
      expect(read("four", name).equals(read("one", name)), name).toBe(true);
    }
    expect(read("one", names[0]!).equals(read("one", names[1]!))).toBe(false);
  });

  test("depth and bridge reach the core", async () => {
    const words = [
      "generate",
      "4",
      ...PAIR,
      "--depth",
      "2",
      "--bridge",
      "3",
      "-o",
      join(scratchFolder(), "a.png"),
      "--json",
    ];
    const { stdout } = await nextscale(words);
    expect(JSON.parse(stdout).scales.map(({ depth }: { depth: number }) => depth)).toEqual([8, 8, 8, 2, 2, 2]);
  });

  test("Ctrl-C in mid-run: 130, soon, and no file", async () => {
    const folder = scratchFolder();
    let sent = 0;
    const words = ["generate", "0-9", "-n", "400", ...PAIR, "--verbose", "-o", join(folder, "a.png")];
    const { code, signal } = await nextscale(words, (text, kill) => {
      if (sent > 0 || !text.includes("scale 2/")) return;
      sent = performance.now();
      kill("SIGINT");
    });
    expect({ code, signal }).toEqual({ code: 130, signal: null });
    expect(performance.now() - sent).toBeLessThan(5000);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("SIGTERM ends it the same way, with its own code", async () => {
    const folder = scratchFolder();
    const words = ["generate", "0-9", "-n", "400", ...PAIR, "--verbose", "-o", join(folder, "a.png")];
    const { code } = await nextscale(words, (text, kill) => {
      if (text.includes("scale 2/")) kill("SIGTERM");
    });
    expect([143, null]).toContain(code); // a second one, if it comes in time, kills
    expect(readdirSync(folder)).toEqual([]);
  });

  test("a reader that goes away is no error", () => {
    const command = `"${process.execPath}" "${bin}" generate --help | head -1; echo "\${PIPESTATUS[0]}"`;
    expect(execFileSync("bash", ["-c", command], { encoding: "utf8" })).toMatch(/^Usage: .*\n0\n$/);
  });
});

describe("convert and inspect", () => {
  test("a converted model gives the pictures of its pair, and inspect reads it back", async () => {
    const folder = scratchFolder();
    const model = join(folder, "digits.safetensors");
    writeFileSync(join(folder, "names.txt"), "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n");
    const pair = [join(digits, "var.pth"), join(digits, "vae.pth")];
    const words = [
      "convert",
      ...pair,
      "-o",
      model,
      "--labels",
      join(folder, "names.txt"),
      "--name",
      "my digits",
      "--json",
    ];
    const converted = await nextscale(words);
    expect(converted.stderr).toBe("");
    expect(JSON.parse(converted.stdout)).toMatchObject({ path: model, dtype: null, preview: true });
    const draw = (source: string[], label: string, name: string) =>
      nextscale(["generate", label, ...source, "-s", "3", "-o", join(folder, name)]);
    expect((await draw(["-m", model], "seven", "a.png")).code).toBe(0);
    await draw(PAIR, "7", "b.png");
    expect(readFileSync(join(folder, "a.png")).equals(readFileSync(join(folder, "b.png")))).toBe(true);
    const inspected = JSON.parse((await nextscale(["inspect", model, "--json"])).stdout);
    expect(inspected).toMatchObject({ name: "my digits", previewMatrix: true });
    expect(inspected.labels[7]).toBe("seven");
  });

  test("Ctrl-C while converting leaves nothing", async () => {
    const folder = scratchFolder();
    const pair = [join(digits, "var.pth"), join(digits, "vae.pth")];
    const child = nextscale(["convert", ...pair, "-o", join(folder, "m.safetensors"), "--verbose"], (_, kill) =>
      kill("SIGINT"),
    );
    const { code, signal } = await child;
    expect(code === 130 || signal === "SIGINT").toBe(true);
    expect(existsSync(join(folder, "m.safetensors"))).toBe(false);
    if (signal === null) expect(readdirSync(folder)).toEqual([]);
  });

  test("inspect's arithmetic equals the core's, for every bridge, depth and format", async () => {
    const source = { var: join(digits, "var.pth"), tokenizer: join(digits, "vae.pth") };
    for (const dtype of ["f32", "f16"] as const) {
      for (const strategy of ["even", "nested"] as const) {
        const model = await loadModel(source, { threads: 1, kvPool: { dtype }, strategy });
        for (let bridge = 0; bridge <= 6; bridge++) {
          for (let depth = 2; depth <= 8; depth++) {
            const zones = { bridge, subnet: depth };
            expect(model.peakBytes(zones)).toBe(poolPeakBytes(model.architecture, { bridge, depth }, dtype));
            expect(model.peakBytes(zones, false)).toBe(poolPeakBytes(model.architecture, { bridge, depth }, dtype, 1));
          }
        }
        await model.dispose();
      }
    }
  });
});

test("doctor names the binary, the instruction set and the devices", async () => {
  const { code, stdout } = await nextscale(["doctor", "--json"]);
  expect(code).toBe(0);
  const json = JSON.parse(stdout);
  expect(json.binary).toMatchObject({ path: expect.stringMatching(/\.node$/), origin: expect.any(String) });
  expect(json.cpu.supported).toContain(json.cpu.target);
  expect(json.devices[0]).toMatchObject({ name: "cpu", available: true });
  expect(json.devices.length).toBeGreaterThan(1);
  for (const { name, reason } of json.devices.slice(1)) {
    expect(name).toMatch(/^cuda(:\d+)?$/);
    expect(reason).not.toBe("");
  }
  const text = (await nextscale(["doctor"])).stdout;
  for (const word of ["system", "binary", "simd", "memory", "devices"]) expect(text).toContain(word);
});
