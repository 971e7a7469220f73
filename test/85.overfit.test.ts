/** The real trainer learns: 32 images by heart, at every depth, from random initialisation. */

import { expect, test } from "vitest";
import { bundledModelPath, loadModel } from "../lib/index.js";
import type { TrainEvent } from "../lib/train/events.js";
import { trainSupernet } from "../lib/train/train.js";
import { memoryTokens, runFolder } from "./support/training.js";

const IMAGES = 32;
const LIMIT_MS = 120_000;

test("32 images are learnt to near-zero loss at every supported depth", { timeout: LIMIT_MS + 60_000 }, async () => {
  const digits = await loadModel();
  const labels = Array.from({ length: IMAGES }, (_, index) => index % 10);
  const images = await digits.generate({ labels, seed: 1 }).images();
  const { flat } = await digits.encode(images);
  const { sides, codebookSize } = digits.architecture;
  // One class for each image: the first token has nothing else to tell it.
  const classes = Array.from({ length: IMAGES }, (_, index) => `image ${index}`);
  const fingerprint = digits.tokenizerFingerprint;
  const tokens = memoryTokens({ length: IMAGES, classes, sides: [...sides], codebookSize, fingerprint });
  tokens.tokens.set(flat);
  await digits.dispose();

  const events: TrainEvent[] = [];
  const begin = performance.now();
  const { evaluation, model } = await trainSupernet({
    base: { tokenizer: bundledModelPath(), depth: 4, width: 64, heads: 2 },
    tokens,
    heldout: tokens, // what it shall know by heart
    output: runFolder(),
    depths: [2, 3],
    bridge: 2,
    steps: 100,
    batch: IMAGES,
    ratio: { start: 0.3, end: 0.8 },
    learningRate: { peak: 6e-3, schedule: "cosine", warmup: 0.05, end: 0 },
    optimizer: { weightDecay: 0 },
    labelDropout: 0,
    evaluation: { everySteps: 100, images: IMAGES },
    samples: 0,
    onEvent: (event) => events.push(event),
  });
  const ms = performance.now() - begin;
  const untrained = events.flatMap((event) => (event.type === "evaluation" && event.step === 0 ? [event.loss] : []));
  expect(evaluation.map(({ depth }) => depth)).toEqual([2, 3, 4]);
  for (const loss of untrained) expect(loss).toBeGreaterThan(3); // it knew nothing
  for (const { depth, loss } of evaluation) expect(loss, `depth ${depth}`).toBeLessThan(0.05);
  expect(ms).toBeLessThan(LIMIT_MS);

  // The exported model gives the same figure through the inference path, and draws its images greedily.
  await using trained = await loadModel(model);
  const score = await trained.score({ tokens: flat, labels: classes.map((_, index) => index), depth: 2 });
  expect(Math.abs(score.mean - evaluation[0]!.loss)).toBeLessThan(1e-3);
  const generation = trained.generate({ labels: [7], depth: 3, topK: 1, guidance: 0, seed: 0 });
  const drawn: number[] = [];
  for await (const scale of generation) drawn.push(...scale.tokens[0]!.data);
  expect(drawn).toEqual([...flat.subarray((7 * flat.length) / IMAGES, (8 * flat.length) / IMAGES)]);
});
