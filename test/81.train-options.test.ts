import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readTrainConfig } from "../lib/cli/train-config.js";
import { InvalidOptionError, IoError } from "../lib/errors.js";
import { resolveTrainOptions } from "../lib/options/train.js";
import { scratchFolder } from "./support/cli.js";

const GOOD = { base: "base.safetensors", tokens: "tokens", output: "run" };

describe("defaults", () => {
  test("are the paper's phases and ratio, and the reference's optimizer", () => {
    expect(resolveTrainOptions(GOOD)).toMatchObject({
      phases: { joint: 5, transition: 15, subnet: 10 },
      ratio: { start: 0.2, end: 1 },
      optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05, clipNorm: 2, decayAll: false },
      learningRate: { peak: undefined, schedule: "linear", warmup: 0.02 },
      labelDropout: 0.1,
      labelSmoothing: 0,
      averageDecay: 0,
      seed: 0,
      resume: false,
      save: { everyMinutes: 10, keep: 2 },
    });
  });

  test("a number is a fixed ratio, a peak; depths are sorted without repeats; a phase given alone stands alone", () => {
    const options = { ...GOOD, ratio: 0.1, learningRate: 3e-4, depths: [8, 2, 4, 2], phases: { transition: 7 } };
    expect(resolveTrainOptions(options)).toMatchObject({
      ratio: { start: 0.1, end: 0.1 },
      learningRate: { peak: 3e-4 },
      depths: [2, 4, 8],
      phases: { joint: 0, transition: 7, subnet: 0 },
    });
    expect(resolveTrainOptions({ ...GOOD, ratio: 0, depths: [] }).depths).toEqual([]);
  });
});

describe("refusals name the option, what was found and what is accepted", () => {
  const signal = {};
  test.each<[string, unknown, string, RegExp]>([
    ["base missing", { ...GOOD, base: undefined }, "base", /a path, \{ var, tokenizer \} or \{ tokenizer, depth \}/],
    ["base empty", { ...GOOD, base: "" }, "base", /non-empty/],
    ["base a list", { ...GOOD, base: ["a", "b"] }, "base", /a path/],
    ["base without depth", { ...GOOD, base: { tokenizer: "t" } }, "base.depth", /number of blocks/],
    ["base with half a pair", { ...GOOD, base: { var: "v" } }, "base.tokenizer", /non-empty/],
    ["base with an unknown key", { ...GOOD, base: { tokenizer: "t", depth: 2, wdth: 4 } }, "base.wdth", /"width"/],
    ["base of depth 0", { ...GOOD, base: { tokenizer: "t", depth: 0 } }, "base.depth", /1\.\.1024/],
    ["tokens missing", { ...GOOD, tokens: undefined }, "tokens", /folder of token shards/],
    ["tokens an object", { ...GOOD, tokens: {} }, "tokens", /folder of token shards/],
    ["heldout a number", { ...GOOD, heldout: 3 }, "heldout", /folder of token shards/],
    ["output missing", { ...GOOD, output: undefined }, "output", /non-empty/],
    ["an unknown key", { ...GOOD, ratios: 1 }, "ratios", /did you mean "ratio"/],
    ["an unknown key far from all", { ...GOOD, zzzzzzzz: 1 }, "zzzzzzzz", /one of base, tokens, heldout/],
    ["null", { ...GOOD, bridge: null }, "bridge", /undefined for the default/],
    ["depths a number", { ...GOOD, depths: 4 }, "depths", /a list of depths/],
    ["depths with a half", { ...GOOD, depths: [2, 2.5] }, "depths[1]", /an integer/],
    ["no depths", { ...GOOD, depths: [] }, "depths", /at least one/],
    ["a negative bridge", { ...GOOD, bridge: -1 }, "bridge", /an integer/],
    ["a strategy", { ...GOOD, strategy: "odd" }, "strategy", /"even", "nested"/],
    ["a phase below 0", { ...GOOD, phases: { joint: -1 } }, "phases.joint", /0/],
    ["an unknown phase", { ...GOOD, phases: { first: 1 } }, "phases.first", /joint, transition, subnet/],
    ["phases of no length", { ...GOOD, phases: { joint: 0 } }, "phases", /longer than 0/],
    ["a ratio above 1", { ...GOOD, ratio: 1.5 }, "ratio", /0\.\.1/],
    ["a ratio as text", { ...GOOD, ratio: "0.1" }, "ratio", /\{ start, end \}/],
    ["a ratio's end", { ...GOOD, ratio: { end: 2 } }, "ratio.end", /0\.\.1/],
    ["epochs of 0", { ...GOOD, epochs: 0 }, "epochs", /above 0/],
    ["steps of a half", { ...GOOD, steps: 1.5 }, "steps", /an integer/],
    ["epochs and steps", { ...GOOD, epochs: 1, steps: 2 }, "steps", /not both/],
    ["a seed below 0", { ...GOOD, seed: -1 }, "seed", /0 or more/],
    ["a batch of 0", { ...GOOD, batch: 0 }, "batch", /1\.\./],
    ["a micro batch of 0", { ...GOOD, microBatch: 0 }, "microBatch", /1\.\./],
    ["checkpointing as text", { ...GOOD, checkpointing: "yes" }, "checkpointing", /true or false/],
    ["no memory", { ...GOOD, memory: 0 }, "memory", /1 or more/],
    ["no threads", { ...GOOD, threads: 0 }, "threads", /1\.\.1024/],
    ["a rate of 0", { ...GOOD, learningRate: 0 }, "learningRate", /above 0/],
    ["a rate that is NaN", { ...GOOD, learningRate: Number.NaN }, "learningRate", /above 0/],
    ["a peak of 0", { ...GOOD, learningRate: { peak: 0 } }, "learningRate.peak", /above 0/],
    ["a schedule", { ...GOOD, learningRate: { schedule: "step" } }, "learningRate.schedule", /"cosine"/],
    ["a warm-up of 5 steps", { ...GOOD, learningRate: { warmup: 5 } }, "learningRate.warmup", /0\.\.1/],
    ["a rate as text", { ...GOOD, learningRate: "1e-4" }, "learningRate", /peak/],
    ["a beta of 1", { ...GOOD, optimizer: { beta2: 1 } }, "optimizer.beta2", /below 1/],
    ["an epsilon of 0", { ...GOOD, optimizer: { epsilon: 0 } }, "optimizer.epsilon", /above 0/],
    ["an unknown setting of the optimizer", { ...GOOD, optimizer: { beta3: 1 } }, "optimizer.beta3", /"beta1"|beta1/],
    ["a dropout above 1", { ...GOOD, labelDropout: 1.1 }, "labelDropout", /0\.\.1/],
    ["a smoothing of 1", { ...GOOD, labelSmoothing: 1 }, "labelSmoothing", /below 1/],
    ["an average of 1", { ...GOOD, averageDecay: 1 }, "averageDecay", /below 1/],
    ["evaluating never", { ...GOOD, evaluation: { everySteps: 0 } }, "evaluation.everySteps", /1 or more/],
    ["evaluating nothing", { ...GOOD, evaluation: { images: 0 } }, "evaluation.images", /1 or more/],
    ["keeping nothing", { ...GOOD, save: { keep: 0 } }, "save.keep", /1\.\./],
    ["saving after no time", { ...GOOD, save: { everyMinutes: 0 } }, "save.everyMinutes", /above 0/],
    ["samples below 0", { ...GOOD, samples: -1 }, "samples", /0\.\./],
    ["a format", { ...GOOD, dtype: "f64" }, "dtype", /"bf16"/],
    ["resume as text", { ...GOOD, resume: "run" }, "resume", /true or false/],
    ["a listener", { ...GOOD, onEvent: 1 }, "onEvent", /a function/],
    ["a signal", { ...GOOD, signal }, "signal", /AbortSignal/],
    ["nothing", undefined, "options", /base, tokens, output/],
    ["a list", [], "options", /an object/],
  ])("%s", (_, raw, option, expected) => {
    const refused = () => resolveTrainOptions(raw);
    expect(refused).toThrow(InvalidOptionError);
    try {
      refused();
    } catch (error) {
      expect((error as InvalidOptionError).option).toBe(option);
      expect((error as InvalidOptionError).expected).toMatch(expected);
    }
  });
});

describe("supernet.json", () => {
  const write = (content: unknown) => {
    const folder = join(scratchFolder(), "sub");
    mkdirSync(folder);
    const path = join(folder, "supernet.json");
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return { path, folder };
  };

  test("holds the same options, with paths relative to the file", async () => {
    const { path, folder } = write({ ...GOOD, heldout: "/abs/heldout", base: { var: "v.pth", tokenizer: "../t.pth" } });
    expect(await readTrainConfig(path)).toEqual({
      base: { var: join(folder, "v.pth"), tokenizer: join(folder, "..", "t.pth") },
      tokens: join(folder, "tokens"),
      heldout: "/abs/heldout",
      output: join(folder, "run"),
    });
    const { path: digits } = write({ ...GOOD, base: "digits" });
    expect((await readTrainConfig(digits)).base).toBe("digits");
  });

  test("that is no JSON, no object, or not there is refused by its path", async () => {
    await expect(readTrainConfig(write("{").path)).rejects.toThrow(/supernet\.json/);
    await expect(readTrainConfig(write("{").path)).rejects.toThrow(InvalidOptionError);
    await expect(readTrainConfig(write("[]").path)).rejects.toThrow(/a JSON object/);
    await expect(readTrainConfig(join(scratchFolder(), "none.json"))).rejects.toThrow(IoError);
  });

  test("passes values of a wrong type on to the check of the options", async () => {
    const config = await readTrainConfig(write({ ...GOOD, tokens: 3 }).path);
    expect(() => resolveTrainOptions(config)).toThrow(/option "tokens"/);
  });
});
