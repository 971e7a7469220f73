/**
 * What nvcc made of the CUDA kernels: nothing runs, no device is needed. Bounds are what the code had when it was
 * written, and a little.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  count,
  epilogueArithmetic,
  type Instruction,
  issueCycles,
  kernels,
  loadsTogether,
  mainLoop,
} from "./support/sass.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const nvcc = spawnSync("nvcc", ["--version"], { encoding: "utf8" });
/** Tiles whose epilogues are one code. Narrow ones hold no whole head, so they have none for q, k and v. */
const TILES = ["LinearWide", "LinearLarge", "LinearSmall", "ConvWide", "ConvLarge", "ConvSmall"];

/** Instructions and issue cycles of a main loop at most, and how many tensor-core instructions it has. */
const MAIN_LOOPS: Record<string, [number, number, number]> = {
  LinearWide: [166, 435, 4],
  LinearLarge: [268, 744, 64],
  LinearSmall: [165, 429, 32],
  LinearNarrow: [131, 318, 16],
  ConvWide: [244, 580, 4],
  ConvLarge: [324, 833, 64],
  ConvSmall: [291, 587, 32],
  ConvNarrow: [229, 455, 16],
  AttentionFourWarps64: [1136, 2260, 64],
  AttentionFourWarps128: [1402, 2730, 128],
};

describe.skipIf(nvcc.status !== 0)("machine code of sm_90a", () => {
  let folder: string;
  const all = new Map<string, Instruction[]>();
  const kernel = (name: string) => all.get(name) ?? expect.fail(`there is no kernel ${name}`);

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "nextscale-sass-"));
    for (const part of ["linear_functions", "other_functions"]) {
      const cubin = join(folder, `${part}.cubin`);
      const source = join(root, "native/backend/cuda/library", `${part}.cu`);
      const flags = ["-std=c++20", "-O3", `-I${root}`, "-gencode=arch=compute_90a,code=sm_90a", "-cubin"];
      execFileSync("nvcc", [...flags, source, "-o", cubin], { stdio: "pipe" });
      for (const [name, instructions] of kernels(cubin)) all.set(name, instructions);
    }
  }, 900_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  test("nothing is spilled", () => {
    expect(all.size).toBeGreaterThan(40);
    for (const [name, instructions] of all) expect([name, count(instructions, "LDL", "STL")]).toEqual([name, 0]);
  });

  test.each(Object.keys(MAIN_LOOPS))("%s: the main loop", (name) => {
    const [instructions, cycles, tensor] = MAIN_LOOPS[name]!;
    for (const format of ["BF16", "F16"]) {
      const loop = mainLoop(kernel(name + format)) ?? expect.fail("there is no loop with tensor cores");
      expect(count(loop, name.endsWith("Wide") ? "HGMMA" : "HMMA")).toBe(tensor);
      expect(count(loop, name.endsWith("Wide") ? "HMMA" : "HGMMA")).toBe(0);
      expect(loop.length).toBeLessThanOrEqual(instructions);
      expect(issueCycles(loop)).toBeLessThanOrEqual(cycles);
    }
  });

  // A row's bytes must not depend on the tile that it was computed in.
  test("every epilogue of a format does the same arithmetic", () => {
    for (const format of ["BF16", "F16"]) {
      const wanted = epilogueArithmetic(kernel(`LinearLarge${format}`));
      for (const tile of TILES) expect([tile, epilogueArithmetic(kernel(tile + format))]).toEqual([tile, wanted]);
      expect(epilogueArithmetic(kernel(`ConvNarrow${format}`))).toEqual(
        epilogueArithmetic(kernel(`LinearNarrow${format}`)),
      );
    }
  });

  // A lane of the norm asks for its whole share of a row before it uses any of it.
  test.each([512, 1024, 1536, 1920, 2304])("norm of up to %i numbers: all loads first", (width) => {
    expect(loadsTogether(kernel(`ModulatedNorm${width}`))).toBeGreaterThanOrEqual(width / 128);
  });

  test("the sampler adds 32 bits at a time in shared memory", () => {
    expect(count(kernel("Sample"), "ATOMS_CAS")).toBe(0);
    expect(count(kernel("Sample"), "ATOMS")).toBeGreaterThan(0);
  });

  test("the statistics of a group norm need no doubles", () => {
    expect(count(kernel("GroupGains"), "DFMA", "DMUL", "DADD")).toBe(0);
  });
});

describe("the rules see", () => {
  const at = (name: string, sets = 7, waits = 0): Instruction => ({ name, stall: 1, sets, waits });

  test("loads that wait for each other", () => {
    const chain = [at("LDG", 0), at("FADD", 7, 1), at("LDG", 0), at("FADD", 7, 1)];
    expect(loadsTogether(chain)).toBe(1);
    expect(loadsTogether([chain[0]!, chain[2]!, chain[1]!, chain[3]!])).toBe(2);
  });
  test("the loop with the tensor cores, and what comes behind it", () => {
    const code = [at("FADD"), at("HMMA"), { ...at("BRA"), target: 1 }, at("FMUL"), { ...at("BRA"), target: 3 }];
    expect(mainLoop(code)?.map(({ name }) => name)).toEqual(["HMMA", "BRA"]);
    expect(issueCycles(code)).toBe(5);
    expect(epilogueArithmetic(code)).toEqual({ FFMA: 0, FADD: 0, FMUL: 1, MUFU: 0, SHFL: 0 });
  });
});
