import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../lib/checkpoint/index.js";
import { InvalidOptionError, InvalidTokensError, IoError, TrainingDivergedError } from "../lib/errors.js";
import { Image } from "../lib/image/image.js";
import { loadModel } from "../lib/model/load.js";
import type { NativeTrainStep } from "../lib/native/contract.js";
import type { EvaluationMetrics, StepMetrics, TrainEvent } from "../lib/train/events.js";
import { exportRun } from "../lib/train/export.js";
import { readMetrics } from "../lib/train/metrics.js";
import { train } from "../lib/train/train.js";
import { fakeAddon } from "./support/fake-trainer.js";
import { hexOf, memoryTokens, runFolder, smallBase, smallOptions, tensorsOf } from "./support/training.js";

describe("a run", () => {
  test("trains what the schedule says and writes run, metrics, checkpoints, model and report", async () => {
    const base = await smallBase("run");
    const heldout = memoryTokens({ fingerprint: base.fingerprint, seed: 9, length: 7 });
    const events: TrainEvent[] = [];
    const steps: NativeTrainStep[] = [];
    const addon = fakeAddon({ onStep: (step) => steps.push(step) });
    const options = smallOptions(base, {
      heldout,
      evaluation: { everySteps: 5 },
      save: { everySteps: 4 },
      onEvent: (event) => events.push(event),
    });
    const result = await train(options, { addon });

    expect(addon.trainers[0]!.disposals).toBe(1);
    expect(steps.length).toBe(12);
    expect(events.slice(0, 2).map(({ type }) => type)).toEqual(["plan", "start"]);
    expect(events.filter(({ type }) => type === "save").map((event) => (event as { step: number }).step)).toEqual([
      4, 8, 12,
    ]);
    const lines = await readMetrics(join(options.output, "metrics.jsonl"));
    const stepLines = lines.filter((line): line is StepMetrics => line.type === "step");
    expect(stepLines.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    steps.forEach(({ depths, learningRate }, index) => {
      const line = stepLines[index]!;
      expect([...depths]).toEqual([4, line.depth, line.depth]);
      expect(learningRate).toBe(line.learningRate);
      expect(line.ratio).toBeGreaterThanOrEqual(0.3);
      for (const value of [line.loss, line.gradientNorm, line.ms, line.tokensPerSecond, ...line.perScale]) {
        expect(Number.isFinite(value)).toBe(true);
      }
    });
    expect(new Set(stepLines.map(({ depth }) => depth))).toEqual(new Set([2, 3, 4]));
    const evaluations = lines.filter((line): line is EvaluationMetrics => line.type === "evaluation");
    expect(evaluations.map(({ step, depth }) => [step, depth])).toEqual(
      [0, 5, 10, 12].flatMap((step) => [2, 3, 4].map((depth) => [step, depth])),
    );
    expect(evaluations.every(({ images, average }) => images === 7 && average)).toBe(true);
    expect(evaluations.at(-1)!.loss).toBeLessThan(evaluations[2]!.loss);
    expect(result.evaluation).toEqual(evaluations.slice(-3));

    const model = await openCheckpoint(result.model);
    expect(model).toMatchObject({ depths: [2, 3, 4], bridge: 1, strategy: "even", labels: ["a", "b", "c"] });
    expect(model.metadata).toMatchObject({ "training.steps": "12 of 12" });
    const recipe = JSON.parse(model.metadata!["training.recipe"]!);
    expect(recipe).toMatchObject({ batch: 4, totalSteps: 12, ratio: { start: 0.3, end: 1 }, seed: 5 });
    expect(model.metadata!["training.data"]).toBe(recipe.data);
    const exported = tensorsOf(result.model);
    const average = new Float32Array(3 * 12);
    addon.trainers[0]!.read("average", "blocks.1.attn.q_bias", average.subarray(0, 12));
    expect(exported.get("var.blocks.1.attn.q_bias")).toBe(hexOf(average.subarray(0, 12)));

    const report = readFileSync(result.report, "utf8");
    expect(report).not.toMatch(/(src|href)="(?!data:)|@import|url\(/); // nothing from anywhere else
    expect(report.match(/<figure class="plot">/g)!.length).toBe(5);
    expect(report).toContain("Held-out cross entropy, nats per token");
    const run = JSON.parse(readFileSync(join(options.output, "run.json"), "utf8"));
    expect(run.plan.recipe).toMatchObject({ microBatch: 4, subnets: [2, 3] });
    expect(existsSync(join(options.output, "step-000004.checkpoint"))).toBe(false); // two are kept
    expect(existsSync(join(options.output, "step-000008.checkpoint"))).toBe(true);
  });

  test("keeps the tokenizer bit by bit, and can be exported again from any checkpoint", async () => {
    const base = await smallBase("export");
    const addon = fakeAddon();
    const options = smallOptions(base, { name: "mine" });
    const { model } = await train(options, { addon });
    const before = await openCheckpoint(base.pair);
    const after = await openCheckpoint(model);
    expect(after.name).toBe("mine");
    const exported = tensorsOf(model);
    for (const { name, file, offset } of before.tensors.filter((tensor) => tensor.name.startsWith("vae."))) {
      const hex = exported.get(name)!;
      expect(readFileSync(before.files[file]!).toString("hex", offset, offset + hex.length / 2)).toBe(hex);
    }
    const weights = join(options.output, "weights.safetensors");
    await exportRun(options.output, { output: weights, average: false });
    const [a, b] = [tensorsOf(model), tensorsOf(weights)];
    expect(a.get("var.head.weight")).not.toEqual(b.get("var.head.weight"));
    const now = new Float32Array(24 * 12);
    addon.trainers[0]!.read("weights", "head.weight", now);
    expect(b.get("var.head.weight")).toBe(hexOf(now));
    const again = join(options.output, "again.safetensors");
    await exportRun(options.output, { output: again });
    expect(tensorsOf(again)).toEqual(a);
  });

  test("from random initialisation takes classes and scales from the tokens, and trains full depth only at ratio 0", async () => {
    const { pair, tokens } = await smallBase("initial");
    const addon = fakeAddon();
    const initial = { tokenizer: pair.tokenizer, depth: 3, width: 24, heads: 2 };
    const { model } = await train(
      smallOptions({ pair, tokens }, { base: initial, depths: undefined, bridge: undefined, ratio: 0 }),
      { addon },
    );
    const { spec } = addon.trainers[0]!;
    expect(spec).toMatchObject({
      initialSeed: 5n,
      config: { depth: 3, width: 24, numHeads: 2, numClasses: 3, sides: [1, 2, 3] },
    });
    expect(spec.tensors.length).toBeGreaterThan(0);
    expect(spec.tensors.every(({ name }) => name.startsWith("vae.quantize."))).toBe(true);
    expect(await openCheckpoint(model)).toMatchObject({ depths: [3], bridge: 0, config: { depth: 3, numHeads: 2 } });
  });

  test("ends with the same weights whatever the pace of saving and evaluating", async () => {
    const base = await smallBase("same");
    const one = await train(smallOptions(base), { addon: fakeAddon() });
    const heldout = memoryTokens({ fingerprint: base.fingerprint });
    const other = await train(smallOptions(base, { heldout, save: { everySteps: 1 }, threads: 2 }), {
      addon: fakeAddon(),
    });
    expect(tensorsOf(one.model)).toEqual(tensorsOf(other.model));
  });
});

test("the report has a sheet of samples for each depth, drawn by the exported model", async () => {
  const base = await smallBase("sheets");
  const events: TrainEvent[] = [];
  const onEvent = (event: TrainEvent) => events.push(event);
  const { report, model } = await train(smallOptions(base, { samples: 5, onEvent }), { addon: fakeAddon() });
  expect(events.filter(({ type }) => type === "warning")).toEqual([]);
  const images = [...readFileSync(report, "utf8").matchAll(/src="data:image\/png;base64,([^"]+)"/g)];
  expect(images.length).toBe(3);
  const png = Buffer.from(images[0]![1]!, "base64");
  expect(await Image.from(png)).toMatchObject({ width: 5 * 6 + 4 * 2, height: 6 }); // five of 6 x 6, two pixels apart
  await using opened = await loadModel(model);
  expect(opened).toMatchObject({ depths: [2, 3, 4], bridge: 1, classNames: ["a", "b", "c"] });
});

describe("stopping", () => {
  test("an abort finishes the step, saves and rejects; resuming ends with the same bits and the same lines", async () => {
    const base = await smallBase("stop");
    const heldout = memoryTokens({ fingerprint: base.fingerprint, seed: 9 });
    const more = { heldout, evaluation: { everySteps: 3 } };
    const whole = smallOptions(base, more);
    const { model } = await train(whole, { addon: fakeAddon() });
    for (const stopAt of [0, 1, 3, 7, 11, 12]) {
      const options = smallOptions(base, more);
      const controller = new AbortController();
      const onEvent = (event: TrainEvent) => {
        if (event.type === (stopAt === 0 ? "start" : "step") && event.step === stopAt) controller.abort("enough");
      };
      const stopped = train({ ...options, onEvent, signal: controller.signal }, { addon: fakeAddon() });
      await expect(stopped).rejects.toMatchObject({ code: "ABORTED", cause: "enough" });
      expect(existsSync(join(options.output, `step-${String(stopAt).padStart(6, "0")}.checkpoint`))).toBe(true);
      const resumed = await train({ ...options, resume: true }, { addon: fakeAddon() });
      expect(tensorsOf(resumed.model)).toEqual(tensorsOf(model));
      const lines = async (folder: string) => {
        const all = await readMetrics(join(folder, "metrics.jsonl"));
        return all.map((line) => (line.type === "step" ? { ...line, ms: 0, tokensPerSecond: 0 } : line));
      };
      expect(await lines(options.output)).toEqual(await lines(whole.output));
    }
  });

  test("metrics.jsonl is cut back to the checkpoint, torn lines and half an evaluation included", async () => {
    const base = await smallBase("cut");
    const heldout = memoryTokens({ fingerprint: base.fingerprint });
    const more = { heldout, evaluation: { everySteps: 4 }, save: { everySteps: 4 } };
    const whole = smallOptions(base, more);
    await train(whole, { addon: fakeAddon() });
    const textOf = (options: { output: string }) => readFileSync(join(options.output, "metrics.jsonl"), "utf8");
    const places = (text: string) =>
      text
        .split("\n")
        .flatMap((line) => (line === "" ? [] : [JSON.parse(line)]))
        .map(({ type, step, depth }) => [type, step, depth]);
    const lines = textOf(whole).trimEnd().split("\n");
    for (const ending of ["", '{"type":"step","st', `${lines[12]}`, "not JSON\n", "\0".repeat(100)]) {
      const options = smallOptions(base, more);
      await expect(train(options, { addon: fakeAddon({ divergeAt: 7 }) })).rejects.toThrow(/step 7/);
      expect(textOf(options)).toContain('"step":6,'); // beyond the checkpoint of step 4
      appendFileSync(join(options.output, "metrics.jsonl"), ending);
      await train({ ...options, resume: true }, { addon: fakeAddon() });
      expect(places(textOf(options))).toEqual(places(textOf(whole)));
    }
    // The evaluation after step 4 was cut short: it is done again, not twice.
    for (const kept of [7, 8, 9, 10]) {
      const options = smallOptions(base, more);
      await expect(train(options, { addon: fakeAddon({ divergeAt: 7 }) })).rejects.toThrow(/step 7/);
      const cut = textOf(options).split("\n").slice(0, kept).join("\n");
      writeFileSync(join(options.output, "metrics.jsonl"), `${cut}\n`);
      await train({ ...options, resume: true }, { addon: fakeAddon() });
      expect(places(textOf(options)), `${kept} lines`).toEqual(places(textOf(whole)));
    }
  });

  test("a run that is there is not overwritten, and not continued with other settings", async () => {
    const base = await smallBase("other");
    const options = smallOptions(base, { save: { everySteps: 3 } });
    const { model } = await train(options, { addon: fakeAddon() });
    await expect(train(options, { addon: fakeAddon() })).rejects.toThrow(InvalidOptionError);
    const other = train({ ...options, resume: true, learningRate: 0.02, seed: 6 }, { addon: fakeAddon() });
    await expect(other).rejects.toThrow(/another seed, learningRate|another learningRate, seed/);
    const again = fakeAddon();
    const done = await train({ ...options, resume: true, threads: 3 }, { addon: again });
    expect(again.trainers.length).toBe(0); // nothing was left to do
    expect(tensorsOf(done.model)).toEqual(tensorsOf(model));
  });

  test("resuming where nothing has been saved begins", async () => {
    const base = await smallBase("nothing");
    const { steps } = await train(smallOptions(base, { resume: true }), { addon: fakeAddon() });
    expect(steps).toBe(12);
  });
});

describe("divergence", () => {
  test("names the step and the tensor, keeps the last good checkpoint and frees the trainer", async () => {
    const base = await smallBase("nan");
    const addon = fakeAddon({ divergeAt: 9 });
    const options = smallOptions(base, { save: { everySteps: 4 } });
    const error = await train(options, { addon }).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(TrainingDivergedError);
    const last = join(options.output, "step-000008.checkpoint");
    expect(error).toMatchObject({ code: "TRAINING_DIVERGED", step: 9, checkpoint: last });
    expect((error as Error).message).toMatch(/step 9: the gradient of head\.weight is NaN/);
    expect(existsSync(last)).toBe(true);
    expect(addon.trainers[0]!.disposals).toBe(1);
    // The next attempt continues behind it.
    const { steps } = await train({ ...options, resume: true }, { addon: fakeAddon() });
    expect(steps).toBe(12);
  });

  test("says so when nothing had been saved", async () => {
    const base = await smallBase("nan1");
    const stopped = train(smallOptions(base), { addon: fakeAddon({ divergeAt: 1 }) });
    await expect(stopped).rejects.toMatchObject({ step: 1, checkpoint: null });
  });
});

describe("bad data", () => {
  test("tokens of another tokenizer, codebook, pyramid, or with too many classes are refused", async () => {
    const base = await smallBase("wrong");
    const { fingerprint } = base;
    const addon = fakeAddon();
    const tokens = [
      memoryTokens({ fingerprint: fingerprint.replace(/^./, (c) => (c === "0" ? "1" : "0")) }),
      memoryTokens({ fingerprint, codebookSize: 25 }),
      memoryTokens({ fingerprint, sides: [1, 2, 4] }),
      memoryTokens({ fingerprint, classes: ["a", "b", "c", "d"] }),
    ];
    for (const wrong of tokens) {
      await expect(train(smallOptions(base, { tokens: wrong }), { addon })).rejects.toThrow(InvalidTokensError);
      await expect(train(smallOptions(base, { heldout: wrong }), { addon })).rejects.toThrow(InvalidTokensError);
    }
    const message = await train(smallOptions(base, { tokens: tokens[0]! }), { addon }).catch(
      (error: Error) => error.message,
    );
    expect(message).toMatch(/tokens of another tokenizer/);
    expect(addon.trainers.length).toBe(0);
  });

  test("no images are refused, one image trains, empty classes are named", async () => {
    const base = await smallBase("few");
    const { fingerprint } = base;
    const none = memoryTokens({ fingerprint, length: 0 });
    await expect(train(smallOptions(base, { tokens: none }), { addon: fakeAddon() })).rejects.toThrow(/without images/);
    const events: TrainEvent[] = [];
    const one = memoryTokens({ fingerprint, length: 1 });
    const onEvent = (event: TrainEvent) => events.push(event);
    const { steps } = await train(smallOptions(base, { tokens: one, batch: undefined, onEvent }), {
      addon: fakeAddon(),
    });
    expect(steps).toBe(12);
    expect(events.find(({ type }) => type === "plan")).toMatchObject({ plan: { recipe: { batch: 1 } } });
    expect(events).toContainEqual({ type: "warning", message: "2 of 3 classes have no images: b, c" });
  });

  test("a bridge over all scales, depths outside the network and a memory that is too small are refused", async () => {
    const base = await smallBase("ranges");
    const addon = fakeAddon();
    const refuse = (more: object) => expect(train(smallOptions(base, more), { addon })).rejects;
    await refuse({ bridge: 3 }).toMatchObject({ option: "bridge", found: "3" });
    await refuse({ depths: [2, 5] }).toMatchObject({ option: "depths[1]", found: "5" });
    await refuse({ depths: [1] }).toMatchObject({ option: "depths[0]", found: "1" });
    await refuse({ depths: [4] }).toMatchObject({ option: "depths", found: "[4]" });
    await refuse({ memory: 1000 }).toMatchObject({ option: "memory", found: "1000" });
    expect(addon.trainers.length).toBe(0);
  });
});

test("memory decides the passes: all at once, fewer, with recomputation", async () => {
  const base = await smallBase("memory");
  const chosen = async (memory: number | undefined) => {
    const addon = fakeAddon();
    await train(smallOptions(base, { batch: 12, steps: 1, memory }), { addon });
    const { microBatch, checkpointing } = addon.trainers[0]!.spec;
    return { microBatch, checkpointing };
  };
  const { trainerBytes } = fakeAddon();
  const { config } = await openCheckpoint(base.pair);
  const bytes = (microBatch: number, checkpointing: boolean) =>
    trainerBytes({ config, threads: 1, average: true, microBatch, checkpointing });
  expect(await chosen(undefined)).toEqual({ microBatch: 12, checkpointing: false });
  expect(await chosen(bytes(7, false))).toEqual({ microBatch: 6, checkpointing: false }); // 6 and 6, not 7 and 5
  expect(await chosen(bytes(2, false))).toEqual({ microBatch: 12, checkpointing: true });
  expect(await chosen(bytes(1, true))).toEqual({ microBatch: 1, checkpointing: true });
  await expect(chosen(bytes(1, true) - 1)).rejects.toThrow(InvalidOptionError);
});

test("a folder that cannot be made is refused before any work", async () => {
  const base = await smallBase("folder");
  const addon = fakeAddon();
  const file = base.pair.tokenizer;
  await expect(train(smallOptions(base, { output: join(file, "run") }), { addon })).rejects.toThrow(IoError);
  expect(addon.trainers.length).toBe(0);
  expect(existsSync(runFolder())).toBe(false);
});
