/** `nextscale convert` without a native binary: files, notes, refusals, Ctrl-C. */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Interrupt } from "../lib/cli/report.js";
import { NoBinaryError } from "../lib/errors.js";
import type { loadModel } from "../lib/model/load.js";
import { type CliOptions, runCli, scratchFolder } from "./support/cli.js";

const golden = join(dirname(fileURLToPath(import.meta.url)), "golden");
const TINY = [join(golden, "tiny", "var.pth"), join(golden, "tiny", "vae.pth")];

const convert = (words: string[], options: CliOptions = {}) => runCli(["convert", "--no-preview", ...words], options);

async function inspect(path: string) {
  return JSON.parse((await runCli(["inspect", path, "--json"])).stdout);
}

describe("what it writes", () => {
  test("one file with the notes that were given", async () => {
    const output = join(scratchFolder(), "tiny.safetensors");
    const classes = (await inspect(TINY[0]!)).transformer.numClasses;
    const names = Array.from({ length: classes }, (_, i) => `class ${i}`);
    writeFileSync(`${output}.txt`, `${names.join("\r\n")}\r\n\n`);
    const notes = ["--labels", `${output}.txt`, "--name", "tiny", "--note", "license=MIT", "--note", "data=a=b"];
    const settings = [
      "--guidance",
      "2",
      "--top-k",
      "9",
      "--top-p",
      "0.9",
      "--bridge",
      "1",
      "--depths",
      "2,5",
      "--strategy",
      "nested",
    ];
    const { code, stdout, stderr } = await convert([...TINY, "-o", output, ...notes, ...settings]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/tiny\.safetensors: [\d.]+ [KM]iB, formats kept, /);
    expect(await inspect(output)).toMatchObject({
      name: "tiny",
      labels: names,
      metadata: { license: "MIT", data: "a=b" },
      recommended: { guidance: 2, topK: 9, topP: 0.9 },
      depths: { trained: [2, 5], bridge: 1, strategy: "nested" },
      previewMatrix: false,
    });
  });

  test("the order of the two files does not matter", async () => {
    const folder = scratchFolder();
    await convert([TINY[0]!, TINY[1]!, "-o", join(folder, "a.safetensors")]);
    const swapped = await convert([TINY[1]!, TINY[0]!, "-o", join(folder, "b.safetensors"), "--json"]);
    expect(JSON.parse(swapped.stdout)).toMatchObject({
      path: join(folder, "b.safetensors"),
      dtype: null,
      preview: false,
    });
    const [a, b] = [await inspect(join(folder, "a.safetensors")), await inspect(join(folder, "b.safetensors"))];
    expect(b.architecture).toEqual(a.architecture);
    expect(b.weightsBytes).toBe(a.weightsBytes);
  });

  test("--dtype changes the matrices, and a converted file converts again", async () => {
    const folder = scratchFolder();
    await convert([...TINY, "-o", join(folder, "half.safetensors"), "--dtype", "bf16"]);
    const half = await inspect(join(folder, "half.safetensors"));
    expect(half.bytesByDType.bf16).toBeGreaterThan(half.bytesByDType.f32);
    expect((await convert([join(folder, "half.safetensors"), "-o", join(folder, "again.safetensors")])).code).toBe(0);
    expect((await inspect(join(folder, "again.safetensors"))).bytesByDType).toEqual(half.bytesByDType);
  });

  test("--verbose prints plain lines; a terminal gets bytes and speed", async () => {
    const folder = scratchFolder();
    const plain = await convert([...TINY, "-o", join(folder, "a.safetensors"), "--verbose"]);
    expect(plain.stderr).toMatch(/iB of weights\n(\d+% .*\n)*100% {2}[\d.]+ .iB of [\d.]+ .iB {2}[\d.]+ .*\/s\n$/);
    const live = await convert([...TINY, "-o", join(folder, "b.safetensors")], { tty: true });
    expect(live.stderr).toMatch(/100% {2}[\d.]+ .iB of .*iB\/s/);
    expect(live.stderr.endsWith("\x1b[0J")).toBe(true);
  });

  test("says what had to be assumed", async () => {
    const pair = [join(golden, "tiny-shared", "var.pth"), join(golden, "tiny-shared", "vae.pth")];
    const words = [...pair, "-o", join(scratchFolder(), "a.safetensors")];
    expect((await convert(words)).stderr).toMatch(/^warning: .*number of heads: 5 assumed/);
    expect((await convert([...words, "--heads", "5"])).stderr).toBe("");
  });

  test("without a native binary the preview is left out, with a warning; --preview insists", async () => {
    const folder = scratchFolder();
    const missing: typeof loadModel = () => Promise.reject(new NoBinaryError("there is no binary\nmore"));
    const words = ["convert", ...TINY, "-o", join(folder, "a.safetensors")];
    const left = await runCli(words, { loadModel: missing });
    expect(left).toMatchObject({ code: 0, stderr: "warning: no linear preview was fitted: there is no binary\n" });
    const insisted = await runCli([...words, "--preview"], { loadModel: missing });
    expect(insisted.code).toBe(1);
    expect(insisted.stderr).toMatch(/^error \[NO_BINARY\]/);
  });
});

describe("refusals", () => {
  const cases: [name: string, words: string[], code: number, message: RegExp][] = [
    ["no output", TINY, 2, /required option '-o, --output <file>'/],
    ["another ending", [...TINY, "-o", "FOLDER/a.bin"], 2, /--output: expected a name that ends in \.safetensors/],
    ["a missing folder", [...TINY, "-o", "FOLDER/none/a.safetensors"], 1, /none does not exist/],
    ["a path through a file", [...TINY, "-o", "FOLDER/file/a.safetensors"], 1, /file is not a folder/],
    ["a folder in its place", [...TINY, "-o", "FOLDER/folder.safetensors"], 1, /it is a folder/],
    [
      "a transformer alone",
      [TINY[0]!, "-o", "FOLDER/a.safetensors"],
      1,
      /error \[INVALID_CHECKPOINT\]: .*no tokenizer/,
    ],
    ["a missing file", ["FOLDER/none.pth", "-o", "FOLDER/a.safetensors"], 1, /error \[IO\]: .*none\.pth/],
    ["an unknown dtype", [...TINY, "-o", "FOLDER/a.safetensors", "--dtype", "int8"], 2, /f32, f16, bf16/],
    [
      "too few labels",
      [...TINY, "-o", "FOLDER/a.safetensors", "--labels", "FOLDER/file"],
      2,
      /--labels"?: expected \d+ names, one for each class, found 1 in/,
    ],
    [
      "labels that are not there",
      [...TINY, "-o", "FOLDER/a.safetensors", "--labels", "FOLDER/none"],
      1,
      /error \[IO\]: cannot read .*none/,
    ],
    [
      "labels in broken JSON",
      [...TINY, "-o", "FOLDER/a.safetensors", "--labels", "FOLDER/broken"],
      2,
      /--labels.*expected class names.*found no name for entry 1/,
    ],
    ["a note without a value", [...TINY, "-o", "FOLDER/a.safetensors", "--note", "MIT"], 2, /key=value/],
  ];
  test.each(cases)("%s", async (_, words, code, message) => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "file"), "one name\n");
    writeFileSync(join(folder, "broken"), '["a", 2]');
    mkdirSync(join(folder, "folder.safetensors"));
    const result = await convert(words.map((word) => word.replace("FOLDER", folder)));
    expect(result.stderr).toMatch(message);
    expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: "" });
    expect(readdirSync(folder).sort()).toEqual(["broken", "file", "folder.safetensors"]);
  });

  test("Ctrl-C removes the temporary file and keeps an older result", async () => {
    const folder = scratchFolder();
    const output = join(folder, "digits.safetensors");
    writeFileSync(output, "older");
    const controller = new AbortController();
    const seen: string[][] = [];
    const stderr = {
      isTTY: true,
      write: () => {
        seen.push(readdirSync(folder));
        controller.abort(new Interrupt("SIGINT", 130));
        return true;
      },
    };
    const pair = [join(golden, "digits", "var.pth"), join(golden, "digits", "vae.pth")];
    const { code } = await convert([...pair, "-o", output], { stderr, signal: controller.signal });
    expect(code).toBe(130);
    expect(seen.some((names) => names.length === 2)).toBe(true); // it was being written
    expect(readdirSync(folder)).toEqual(["digits.safetensors"]);
    expect(readFileSync(output, "utf8")).toBe("older");
  });
});
