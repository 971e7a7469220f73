/** `nextscale inspect` and `doctor`: what needs no native binary. */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { listedDepths, peakRows, poolPeakBytes, typicalBridge } from "../lib/cli/memory.js";
import { runCli } from "./support/cli.js";

const golden = join(dirname(fileURLToPath(import.meta.url)), "golden");
const NO_BINARY = { NEXTSCALE_BINDING: "/no/such/binary.node" };

async function withoutBinary<T>(work: () => Promise<T>): Promise<T> {
  const before = process.env.NEXTSCALE_BINDING;
  process.env.NEXTSCALE_BINDING = NO_BINARY.NEXTSCALE_BINDING;
  try {
    return await work();
  } finally {
    if (before === undefined) delete process.env.NEXTSCALE_BINDING;
    else process.env.NEXTSCALE_BINDING = before;
  }
}

describe("memory arithmetic", () => {
  const D30 = { depth: 30, sides: [1, 2, 3, 4, 5, 6, 8, 10, 13, 16] };
  const naive = 30 * 680;

  test.each([
    [30, 0.636],
    [16, 0.345],
    [8, 0.179],
    [2, 0.134],
  ])("VAR-d30 after a bridge of 6, depth %i: %f of the naive cache", (depth, share) => {
    expect(peakRows(D30, { bridge: 6, depth }) / naive).toBeCloseTo(share, 3);
  });

  test("counts the scratch of the last scale, and nothing else of it", () => {
    expect(peakRows({ depth: 5, sides: [7] }, { bridge: 0, depth: 5 })).toBe(49);
    expect(peakRows({ depth: 5, sides: [1, 2] }, { bridge: 0, depth: 3 })).toBe(3 * 1 + 4);
    expect(peakRows({ depth: 5, sides: [3, 4, 5] }, { bridge: 2, depth: 2 })).toBe(5 * 25); // the bridge is the peak
  });

  test("bytes are rows times keys and values, width, format and sequences", () => {
    const architecture = { ...D30, width: 1920 } as Parameters<typeof poolPeakBytes>[0];
    const rows = peakRows(D30, { bridge: 6, depth: 16 });
    expect(poolPeakBytes(architecture, { bridge: 6, depth: 16 }, "f32")).toBe(rows * 2 * 1920 * 4 * 2);
    expect(poolPeakBytes(architecture, { bridge: 6, depth: 16 }, "bf16", 1)).toBe(rows * 2 * 1920 * 2);
  });

  test("depths worth a line, and a bridge worth showing", () => {
    expect(listedDepths(30, [2, 4, 8, 16, 30])).toEqual([30, 16, 8, 4, 2]);
    expect(listedDepths(6, [6, 5])).toEqual([6, 5, 4, 2]);
    expect(listedDepths(1, [1])).toEqual([1]);
    expect(typicalBridge(D30.sides)).toBe(6);
    expect(typicalBridge([1])).toBe(0);
  });
});

describe("inspect", () => {
  const pair = (name: string) => [join(golden, name, "var.pth"), join(golden, name, "vae.pth")];

  test("a pair of PyTorch files, without a native binary", async () => {
    const { code, stdout, stderr } = await withoutBinary(() => runCli(["inspect", ...pair("digits"), "--json"]));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const json = JSON.parse(stdout);
    expect(json.architecture).toMatchObject({
      depth: 8,
      width: 128,
      heads: 2,
      numClasses: 10,
      codebookSize: 512,
      codeDim: 8,
      sides: [1, 2, 3, 4, 6, 8],
      imageSide: 32,
      numTokens: 130,
    });
    expect(json.files.map(({ path }: { path: string }) => path)).toEqual(pair("digits"));
    const weights = 4 * json.parameters.total;
    expect(json.weightsBytes).toBe(weights);
    expect(weights).toBeLessThan(json.files[0].bytes + json.files[1].bytes);
    expect(json.memory.depths.map(({ depth }: { depth: number }) => depth)).toEqual([8, 4, 2]);
  });

  test("as text: architecture, sizes, labels, depths, memory", async () => {
    const { stdout } = await runCli(["inspect", ...pair("digits")]);
    expect(stdout).toContain("8 blocks");
    expect(stdout).toContain("128, 2 heads");
    expect(stdout).toContain("1, 2, 3, 4, 6, 8 (6 scales, 130 tokens)");
    expect(stdout).toMatch(/labels\s+0\.\.9, without names/);
    expect(stdout).toMatch(/^ {6}8 .*[KM]iB .*[KM]iB .*[KM]iB {2}full$/m);
  });

  test("a trainer's checkpoint holds both parts in one file", async () => {
    const { code, stdout } = await runCli(["inspect", join(golden, "tiny-shared", "trainer.pth"), "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).architecture).toMatchObject({ depth: 5, width: 40, sharedAda: true });
  });

  test("half-precision files say so, whatever the order of the two", async () => {
    const words = [
      "inspect",
      join(golden, "tiny-shared", "vae.pth"),
      join(golden, "tiny-shared", "half.pth"),
      "--json",
    ];
    const { bytesByDType } = JSON.parse((await runCli(words)).stdout);
    expect(bytesByDType).toEqual({ f16: expect.any(Number), f32: expect.any(Number), bf16: 0 });
    expect(Math.min(bytesByDType.f16, bytesByDType.f32)).toBeGreaterThan(0);
  });

  test("one part alone: its shape, and no memory", async () => {
    const [transformer, tokenizer] = pair("digits");
    const json = JSON.parse((await runCli(["inspect", transformer!, "--json"])).stdout);
    expect(json).toMatchObject({
      architecture: null,
      memory: null,
      transformer: { depth: 8, width: 128 },
      tokenizer: null,
    });
    const text = (await runCli(["inspect", tokenizer!])).stdout;
    expect(text).toContain("tokenizer alone");
    expect(text).toMatch(/codebookSize\s+512/);
  });

  test("refusals: a missing file, something else, too many words", async () => {
    const missing = await runCli(["inspect", "/no/such/model.safetensors"]);
    expect(missing).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^error \[IO\]: .*\/no\/such\/model/),
    });
    const other = await runCli(["inspect", join(golden, "README.md"), "--json"]);
    expect(other.stderr).toMatch(/^error \[INVALID_CHECKPOINT\]: .*README\.md/);
    expect(JSON.parse(other.stdout).error.code).toBe("INVALID_CHECKPOINT");
    expect((await runCli(["inspect", ...pair("digits"), "third"])).code).toBe(2);
  });
});

test("doctor without a binary: says what was tried and exits with 1", async () => {
  const { code, stdout } = await withoutBinary(() => runCli(["doctor", "--json"], { env: NO_BINARY }));
  expect(code).toBe(1);
  const json = JSON.parse(stdout);
  expect(json.binary).toBeNull();
  expect(json.binaryError).toContain("/no/such/binary.node");
  expect(json.environment).toEqual(NO_BINARY);
  expect(json.devices[0]).toMatchObject({ name: "cpu", available: false });
  const text = await withoutBinary(() => runCli(["doctor"], { env: NO_BINARY }));
  expect(text.stdout).toMatch(/binary\s+none/);
  expect(text.stdout).toContain("Possible solutions:");
});
