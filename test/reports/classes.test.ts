/** Items 1 and 2 of the log: one rule for the classes of a set, whoever asks. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { TokenSet, tokenizeImages } from "../../lib/data/index.js";
import { evaluateModel } from "../../lib/evaluate/index.js";
import { loadModel } from "../../lib/model/load.js";
import type { EvaluationMetrics, TrainEvent } from "../../lib/train/events.js";
import { train } from "../../lib/train/train.js";
import { runCli, scratchFolder } from "../support/cli.js";

const NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/** Two images of each digit in folders of these names, as tokens. */
async function tokensOf(names: string[], folder: string): Promise<TokenSet> {
  await using model = await loadModel(undefined, { threads: 1 });
  for (const [digit, name] of names.entries()) {
    mkdirSync(join(folder, "images", name), { recursive: true });
    const images = await model.generate({ labels: [digit, digit], seed: 5 }).images();
    for (const [index, image] of images.entries()) await image.toFile(join(folder, "images", name, `${index}.png`));
  }
  await tokenizeImages({ model, images: join(folder, "images"), output: join(folder, "tokens") });
  return TokenSet.open(join(folder, "tokens"));
}

test.each([
  ["named", NAMES, "name"],
  ["numbered", NAMES.map((_, digit) => String(digit)), "number"],
])("train, evaluate and export agree on %s folders", async (_, names, rule) => {
  const folder = scratchFolder();
  const tokens = await tokensOf(names, folder);
  await using model = await loadModel(undefined, { threads: 1 });
  const evaluation = await evaluateModel({ model, tokens, depths: [8] });
  expect(evaluation.classes.rule).toBe(rule);
  expect(evaluation.classes.classes.map((to) => names[to])).toEqual(tokens.classes);
  const events: TrainEvent[] = [];
  const options = {
    ...{ base: "digits", tokens, heldout: tokens, output: join(folder, "run"), threads: 1 },
    ...{ ratio: 0, steps: 1, batch: 2, samples: 0, learningRate: 1e-12, seed: 1 },
  };
  const trained = await train({ ...options, onEvent: (event) => events.push(event) });
  const before = events.find((event): event is EvaluationMetrics => event.type === "evaluation")!;
  expect(before.loss).toBeCloseTo(evaluation.depths[0]!.mean, 3); // by place it was 3.6 instead of 2.3
  const plan = events.find((event) => event.type === "plan")!.plan;
  expect(plan.classes).toEqual(evaluation.classes);
  const told = rule === "name"; // the numbers are the identity: nothing to tell
  expect(plan.warnings.some((line) => line.startsWith("10 classes by name: eight is 8, five is 5"))).toBe(told);
  expect((await openCheckpoint(trained.model)).labels).toEqual([...model.classNames]);

  const { stderr } = await runCli(["evaluate", "--tokens", tokens.folder, "--depths", "8"], { loadModel });
  expect(stderr.includes("10 classes by name: ")).toBe(told);
});
