/** The real trainer learns: 32 images by heart, at every depth, from random initialisation. */

import { availableParallelism } from "node:os";
import { expect, test } from "vitest";
import { Image } from "../lib/image/image.js";
import { loadModel } from "../lib/model/load.js";
import type { TrainEvent } from "../lib/train/events.js";
import { trainSupernet } from "../lib/train/train.js";
import { Random } from "./support/random-checkpoint.js";
import { memoryTokens, runFolder, smallBase } from "./support/training.js";

const IMAGES = 32;
const SIDES = [1, 2, 3, 4];
/** Of processor time per core: what other programs take of the machine does not count. */
const LIMIT_S = 120;

/** Noise: nothing but memory helps. */
function noise(side: number): Image[] {
  const random = new Random(11);
  const pixels = () => Uint8ClampedArray.from({ length: side * side * 3 }, () => random.below(256));
  return Array.from({ length: IMAGES }, () => new Image(side, side, pixels()));
}

test("32 images are learnt to near-zero loss at every supported depth", { timeout: 600_000 }, async () => {
  const { pair, fingerprint } = await smallBase("overfit", { sides: SIDES });
  const tokenizer = await loadModel(pair);
  const { flat } = await tokenizer.encode(noise(tokenizer.architecture.imageSide));
  const { codebookSize } = tokenizer.architecture;
  await tokenizer.dispose();
  // One class for each image: the first token has nothing else to tell it.
  const classes = Array.from({ length: IMAGES }, (_, index) => `image ${index}`);
  const tokens = memoryTokens({ length: IMAGES, classes, sides: SIDES, codebookSize, fingerprint });
  tokens.tokens.set(flat);

  const events: TrainEvent[] = [];
  const begin = process.cpuUsage();
  const { evaluation, model } = await trainSupernet({
    base: { tokenizer: pair.tokenizer, depth: 4, width: 64, heads: 2 },
    tokens,
    heldout: tokens, // what it shall know by heart
    output: runFolder(),
    depths: [2, 3],
    bridge: 2,
    steps: 150,
    batch: IMAGES,
    ratio: { start: 0.5, end: 0.8 },
    learningRate: { peak: 6e-3, schedule: "cosine", warmup: 0.05, end: 0 },
    optimizer: { weightDecay: 0 },
    labelDropout: 0,
    evaluation: { everySteps: 150, images: IMAGES },
    samples: 0,
    onEvent: (event) => events.push(event),
  });
  const { user, system } = process.cpuUsage(begin);
  const untrained = events.flatMap((event) => (event.type === "evaluation" && event.step === 0 ? [event.loss] : []));
  expect(evaluation.map(({ depth }) => depth)).toEqual([2, 3, 4]);
  for (const loss of untrained) expect(loss).toBeGreaterThan(2); // it knew nothing: ln 24 is 3.2
  for (const { depth, loss } of evaluation) expect(loss, `depth ${depth}`).toBeLessThan(0.05);
  expect((user + system) / 1e6 / availableParallelism()).toBeLessThan(LIMIT_S);

  // The exported model gives the same figure through the inference path, and draws its images greedily, token by token.
  const trained = await loadModel(model);
  try {
    const labels = classes.map((_, index) => index);
    const score = await trained.score({ tokens: flat, labels, depth: 2 });
    expect(Math.abs(score.mean - evaluation[0]!.loss)).toBeLessThan(1e-3);
    for (const depth of [2, 3, 4]) {
      const drawn: number[] = [];
      for await (const scale of trained.generate({ labels: [7], depth, topK: 1, guidance: 0, seed: 0 })) {
        drawn.push(...scale.tokens[0]!.data);
      }
      expect(drawn).toEqual([...flat.subarray((7 * flat.length) / IMAGES, (8 * flat.length) / IMAGES)]);
    }
  } finally {
    await trained.dispose();
  }
});
