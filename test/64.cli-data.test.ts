/** `nextscale tokenize`, `evaluate` and `sample`, with the bundled model. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Interrupt } from "../lib/cli/report.js";
import { TokenSet } from "../lib/data/index.js";
import { loadModel } from "../lib/model/load.js";
import { type CliOptions, runCli } from "./support/cli.js";
import { goldenPath } from "./support/golden.js";
import { scratch, writeClasses, writePng } from "./support/token-files.js";

const run = (words: string[], options: CliOptions = {}) => runCli(words, { loadModel, ...options });

/** Ten classes of one picture each, 28 x 28. */
async function digits(root: string): Promise<string> {
  const images = join(root, "images");
  for (let digit = 0; digit < 10; digit++) {
    await writePng(join(images, String(digit), "0.png"), 28, (x, y) => ((x + y + 9 * digit) % 28) * 9);
  }
  return images;
}

describe("tokenize", () => {
  test("a folder, then the same again, then JSON", async () => {
    const root = scratch();
    const images = await digits(root);
    const output = join(root, "tokens");
    const words = ["tokenize", images, "--fit", "pad", "-o", output];
    const first = await run(words);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toMatch(/tokens: 10 images of 10 classes, 1 shard, [\d.]+ KiB, [\d.]+ m?s\n$/);
    expect(await TokenSet.open(output)).toMatchObject({ length: 10, sides: [1, 2, 3, 4, 6, 8] });
    expect((await run(words)).stdout).toMatch(/10 images of 10 classes, 10 of them by an earlier run/);
    const { stdout } = await run([...words, "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      model: "digits",
      output,
      images: 10,
      resumed: 10,
      skipped: [],
      shards: 1,
    });
  });

  test("flags become options", async () => {
    const root = scratch();
    const images = await digits(root);
    const output = join(root, "tokens");
    const flags = ["--resize", "40", "--crop", "random", "--flip", "--seed", "9", "--shard-size", "4", "--batch", "3"];
    expect(await run(["tokenize", images, "-o", output, ...flags, "--max-per-class", "1"])).toMatchObject({ code: 0 });
    const { pictures, length } = await TokenSet.open(output);
    expect({ pictures, length }).toEqual({
      pictures: { side: 32, fit: "cover", resize: 40, crop: "random", flip: true, seed: "9" },
      length: 20,
    });
    expect(readdirSync(output).length).toBe(6);
    const refused = await run(["tokenize", images, "-o", output, "--fit", "pad"]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("INVALID_TOKENS") });
    expect(await run(["tokenize", images, "-o", output, "--fit", "pad", "--overwrite"])).toMatchObject({ code: 0 });
  });

  test("skipped files are named, many of them counted, stray ones told", async () => {
    const root = scratch();
    const images = await digits(root);
    writeFileSync(join(images, "readme.md"), "x");
    for (let index = 0; index < 12; index++) writeFileSync(join(images, "3", `bad-${index}.png`), "x");
    const { code, stdout, stderr } = await run(["tokenize", images, "--fit", "pad", "-o", join(root, "tokens")]);
    expect(code).toBe(0);
    expect(stdout).toContain("10 images of 10 classes, 1 shard");
    expect(stdout).toContain("12 files skipped");
    expect(stderr.match(/^skipped 3\/bad-\d+\.png: .+$/gm)?.length).toBe(10);
    expect(stderr).toContain("skipped 2 more files; all of them are listed in");
    expect(stderr).toContain("1 files beside the class folders were left out (readme.md");
  });

  test("a tokenizer alone, with the sides that its file does not tell", async () => {
    const root = scratch();
    const images = await digits(root);
    const words = ["tokenize", images, "--fit", "pad", "-o", join(root, "tokens")];
    const vae = goldenPath("digits", "vae.pth");
    const refused = await run([...words, "--tokenizer", vae]);
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--sides: expected the sides of the scales, 6/),
    });
    expect(await run([...words, "--tokenizer", vae, "--sides", "1,2,3,4,6,8"])).toMatchObject({ code: 0 });
    // The same tokenizer out of a whole model: nothing is left to do.
    expect((await run(words)).stdout).toContain("10 of them by an earlier run");
    const pair = ["--tokenizer", vae, "--var", goldenPath("digits", "var.pth")];
    expect((await run([...words, ...pair])).stdout).toContain("10 of them by an earlier run");
    expect(await run([...words, "--var", goldenPath("digits", "var.pth")])).toMatchObject({ code: 2 });
    expect(await run([...words, "-m", goldenPath("digits", "var.pth")])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("holds a transformer but no tokenizer"),
    });
  });

  test("a terminal sees a bar that goes away", async () => {
    const root = scratch();
    const images = await digits(root);
    const { stderr } = await run(["tokenize", images, "-o", join(root, "tokens")], { tty: true });
    expect(stderr).toMatch(/█{20} 100% {2}10 of 10 {2}\d+/);
    expect(stderr.endsWith("\r\x1b[0J")).toBe(true);
  });

  test("Ctrl-C, no images, an empty class, no output", async () => {
    const root = scratch();
    const images = await digits(root);
    const stop = new AbortController();
    stop.abort(new Interrupt("SIGINT", 130));
    const stopped = await run(["tokenize", images, "-o", join(root, "a")], { signal: stop.signal });
    expect(stopped).toMatchObject({ code: 130, stderr: "stopped\n" });
    mkdirSync(join(images, "empty"));
    const refused = await run(["tokenize", images, "-o", join(root, "a"), "--json"]);
    expect(refused.code).toBe(2);
    expect(JSON.parse(refused.stdout).error).toMatchObject({ code: "INVALID_OPTION" });
    expect((await run(["tokenize", images])).code).toBe(2);
    expect((await run(["tokenize", join(root, "nowhere"), "-o", join(root, "a")])).code).toBe(2);
    expect(existsSync(join(root, "a"))).toBe(false);
  });
});

describe("evaluate", () => {
  async function tokens(root: string): Promise<string> {
    const output = join(root, "tokens");
    await run(["tokenize", await digits(root), "--fit", "pad", "-o", output]);
    return output;
  }

  test("a table of depths, or JSON", async () => {
    const set = await tokens(scratch());
    const words = ["evaluate", "--tokens", set, "--depths", "2,4", "--bridge", "3"];
    const { code, stdout, stderr } = await run(words);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^digits: 10 images of .*tokens, 130 tokens each, the first 3 scales at full depth/);
    expect(stdout).toMatch(
      /\n {6}8 +\d\.\d{3} +±\d\.\d{3}( +\d\.\d\d){6}\n {6}4 +\d\.\d{3} +±\d\.\d{3} +[+-]\d\.\d{3} /,
    );
    const json = JSON.parse((await run([...words, "--limit", "4", "--json"])).stdout);
    expect(json).toMatchObject({ model: "digits", images: 4, bridge: 3, numTokens: 130 });
    expect(json.depths.map(({ depth }: { depth: number }) => depth)).toEqual([8, 4, 2]);
    expect(json.depths[0].perScale.length).toBe(6);
  });

  test("--sensitivity recommends a bridge and draws a plot", async () => {
    const root = scratch();
    const set = await tokens(root);
    const plot = join(root, "plot.svg");
    const words = ["evaluate", "--tokens", set, "--sensitivity", "--limit", "2", "--depth", "4", "--zones", "2"];
    const { code, stdout } = await run([...words, "--loss-budget", "0", "--plot", plot]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/scales 0-2 .*\n.*scales 3-5 /);
    expect(stdout).toMatch(/recommended bridge: \d, the shortest one within 0\.000 nats/);
    expect(readFileSync(plot, "utf8")).toMatch(/^<svg /);
    const json = JSON.parse((await run([...words, "--json"])).stdout);
    expect(json).toMatchObject({ depth: 4, fullDepth: 8, images: 2, plot: null });
    expect([json.scales.length, json.zones.length, json.bridges.length]).toEqual([6, 2, 7]);
  });

  test("refusals", async () => {
    const root = scratch();
    const set = await tokens(root);
    expect((await run(["evaluate"])).code).toBe(2);
    const no = { loadModel: () => Promise.reject(new Error("must not be opened")) };
    expect((await run(["evaluate", "--tokens", join(root, "nowhere")], no)).stderr).toContain("INVALID_TOKENS");
    for (const flags of [
      ["--depth", "4"],
      ["--plot", "x.svg"],
      ["--sensitivity", "--depths", "4"],
      ["--sensitivity", "--bridge", "1"],
      ["--sensitivity", "--plot", join(root, "nowhere", "x.svg")],
      ["x.safetensors", "--model", "y.safetensors"],
    ]) {
      const { code } = await run(["evaluate", "--tokens", set, ...flags], no);
      expect(code, flags.join(" ")).toBe(flags[1] === "--plot" ? 1 : 2);
    }
    const tiny = ["--var", goldenPath("tiny", "var.pth"), "--tokenizer", goldenPath("tiny", "vae.pth")];
    const other = await run(["evaluate", "--tokens", set, ...tiny]);
    expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("INVALID_TOKENS") });
  });
});

describe("sample", () => {
  const fast = ["--depth", "2", "--guidance", "0"];

  test("PNG files, resumed, and an .npz from two shards", async () => {
    const root = scratch();
    const folder = join(root, "out");
    const words = ["sample", "--per-class", "2", "--classes", "0-1,seven", ...fast];
    const first = await run([...words, "-o", folder]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toMatch(/out: 6 images, seed 0, /);
    const names = [0, 1, 7].flatMap((digit) => [`${digit}-000000.png`, `${digit}-000001.png`]);
    expect(readdirSync(folder).sort()).toEqual([...names, "samples.json"]);
    expect((await run([...words, "-o", folder])).stdout).toContain("6 images, 6 of them by an earlier run");
    const npz = join(root, "out.npz");
    expect((await run([...words, "-o", npz, "--shard", "2/2"])).stdout).toContain("3 images of 6; the file follows");
    const last = await run([...words, "-o", npz, "--shard", "1/2", "--json"]);
    expect(JSON.parse(last.stdout)).toMatchObject({ format: "npz", complete: true, total: 6, shard: "1/2", seed: "0" });
    expect(existsSync(npz)).toBe(true);
  });

  test("another model file does not go on where one stopped", async () => {
    const root = scratch();
    const words = ["sample", "-n", "1", "--classes", "3", ...fast, "-o", join(root, "out")];
    expect((await run(words)).code).toBe(0);
    const pair = ["--var", goldenPath("digits", "var.pth"), "--tokenizer", goldenPath("digits", "vae.pth")];
    const other = await run([...words, ...pair]);
    expect(other).toMatchObject({ code: 2, stderr: expect.stringContaining("another model") });
  });

  test("refusals", async () => {
    const root = scratch();
    await writeClasses(join(root, "x"), { a: [1] });
    const out = ["-o", join(root, "out")];
    const usage = async (...flags: string[]) => expect((await run(["sample", ...flags])).code, flags.join(" ")).toBe(2);
    await usage(...out);
    await usage("-n", "1");
    await usage(...out, "-n", "0");
    await usage(...out, "-n", "1", "--shard", "0/2");
    await usage(...out, "-n", "1", "--shard", "3/2");
    await usage(...out, "-n", "1", "--shard", "1/2", "--overwrite");
    await usage(...out, "-n", "1", "--bridge", "2");
    await usage(...out, "-n", "1", "--classes", "ten");
    await usage(...out, "-n", "1", "--depth", "9");
    expect(existsSync(join(root, "out"))).toBe(false);
    const missing = await run(["sample", join(root, "no.safetensors"), "-n", "1", ...out]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("error [IO]") });
  });
});
