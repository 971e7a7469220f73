/** score(): the core's losses against the recorded ones, against captured logits, and in any number of runs. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { CallSite } from "../lib/errors.js";
import { resolveConditions } from "../lib/labels/index.js";
import { internal } from "../lib/model/internal.js";
import { Lifecycle } from "../lib/model/lifecycle.js";
import type { Model } from "../lib/model/model.js";
import { Observer } from "../lib/model/observer.js";
import { imagesPerRun, scoreTokens } from "../lib/model/score.js";
import type { NativeEndEvent, NativeGeneration, NativeRequest, NativeScaleEvent } from "../lib/native/contract.js";
import type { DepthPlan } from "../lib/options/depth.js";
import { Golden, maxDifference, openGolden } from "./support/golden.js";
import { Random } from "./support/random-checkpoint.js";
import { rejection } from "./support/rejections.js";

let model: Model;
beforeAll(async () => {
  model = await openGolden("digits");
});
afterAll(() => model.dispose());

const random = new Random(27);
const draw = (count: number) => {
  const { numTokens, codebookSize } = model.architecture;
  return {
    labels: Array.from({ length: count }, () => random.below(10)),
    tokens: Int32Array.from({ length: count * numTokens }, () => random.below(codebookSize)),
  };
};

/** -ln softmax(logits)[token], naive. */
function crossEntropy(logits: Float32Array, token: number): number {
  const max = logits.reduce((a, b) => Math.max(a, b));
  return Math.log(logits.reduce((sum, value) => sum + Math.exp(value - max), 0)) + max - logits[token]!;
}

/** A request of given tokens as score makes it, but for `extra`. */
function requestOf(labels: number[], depth: number, extra: Partial<NativeRequest>): NativeRequest {
  const { numScales } = model.architecture;
  return {
    numMixed: 1,
    labels: Int32Array.from(labels),
    weights: null,
    seed: 0n,
    firstImage: 0,
    guidance: new Float32Array(numScales),
    topK: 0,
    topP: 0,
    depths: new Int32Array(numScales).fill(depth),
    deadlineMs: 0,
    deadlineDepths: new Int32Array(0),
    keepDroppedCache: true,
    wait: true,
    preview: "none",
    givenTokens: null,
    losses: false,
    capture: false,
    ...extra,
  };
}

/** All scale events of a native generation, and its end. */
async function eventsOf(request: NativeRequest): Promise<{ scales: NativeScaleEvent[]; end: NativeEndEvent }> {
  const scales: NativeScaleEvent[] = [];
  let running: NativeGeneration | null = null; // one that nobody holds is cancelled
  const end = await new Promise<NativeEndEvent>((resolve) => {
    running = model[internal].native.generate(request, (event) => {
      if (event.type === "end") resolve(event);
      else scales.push(event);
    });
  });
  expect(running).not.toBeNull();
  return { scales, end };
}

test("losses are the cross entropy of the logits, at any depth and in any company", async () => {
  const { codebookSize } = model.architecture;
  for (const depth of [8, 3, 2]) {
    const { labels, tokens } = draw(5);
    const forced = { givenTokens: tokens, losses: true };
    const others = model.generate({ labels: [1, 2, 3] });
    const plain = eventsOf(requestOf(labels, depth, forced));
    const { scales } = await eventsOf(requestOf(labels, depth, { ...forced, capture: true }));
    expect(scales.length).toBe(model.architecture.numScales);
    for (const { index, tokens: drawn, logits, losses } of scales) {
      const expected = Array.from(drawn, (token, row) =>
        crossEntropy(logits!.subarray(row * codebookSize, (row + 1) * codebookSize), token),
      );
      expect(losses!.length).toBe(drawn.length);
      expect(maxDifference(losses!, expected)).toBeLessThan(1e-4);
      expect([...(await plain).scales[index]!.losses!]).toEqual([...losses!]);
    }
    await others.tokens();
  }
});

test("guidance plays no part", async () => {
  const { labels, tokens } = draw(2);
  const read = async (t: number) => {
    const guidance = new Float32Array(model.architecture.numScales).fill(t);
    const { scales } = await eventsOf(requestOf(labels, 8, { guidance, givenTokens: tokens, losses: true }));
    return scales.flatMap(({ losses }) => [...losses!]);
  };
  expect(await read(3)).toEqual(await read(0));
});

test("only generations that ask carry losses", async () => {
  const { labels, tokens } = draw(1);
  for (const extra of [{}, { givenTokens: tokens }])
    for (const { losses } of (await eventsOf(requestOf(labels, 8, extra))).scales) expect(losses).toBeNull();
  await expect(eventsOf(requestOf(labels, 8, { losses: true }))).rejects.toThrowError(/losses need all tokens given/);
  const some = tokens.slice().fill(-1, 0, 3);
  const asked = eventsOf(requestOf(labels, 8, { givenTokens: some, losses: true }));
  await expect(asked).rejects.toThrowError(/losses need all tokens given/);
});

test("a signal ends it, before and in the middle; a disposed model ends it too", async () => {
  const { labels, tokens } = draw(300);
  expect(await rejection(model.score({ labels, tokens, signal: AbortSignal.abort("no") }))).toMatchObject({
    code: "ABORTED",
    cause: "no",
  });
  const stop = new AbortController();
  const running = model.score({ labels, tokens, signal: stop.signal });
  setTimeout(() => stop.abort("enough"), 5);
  expect(await rejection(running)).toMatchObject({ code: "ABORTED", cause: "enough" });
  const other = await openGolden("digits");
  const disposed = rejection(other.score({ labels, tokens }));
  await other.dispose();
  expect(await disposed).toMatchObject({ code: expect.stringMatching(/ABORTED|DISPOSED/) });
});

test("onEvent hears of a score as of any other work", async () => {
  const told: string[] = [];
  const watched = await openGolden("digits", "var.pth", { onEvent: ({ type }) => void told.push(type) });
  const { labels, tokens } = draw(2);
  await watched.score({ labels, tokens });
  expect(told).toEqual(["request", "start", ...watched.architecture.sides.map(() => "scale"), "end"]);
  await watched.dispose();
});

test("a pool that holds two images gives the same score in many runs, beside another generation", async () => {
  const { labels, tokens } = draw(7);
  const whole = await model.score({ labels, tokens });
  const bytes = 2 * model.peakBytes(8);
  const small = await openGolden("digits", "var.pth", { kvPool: { bytes } });
  const [parts] = await Promise.all([small.score({ labels, tokens }), small.generate({ labels: 1 }).tokens()]);
  expect([...parts.perToken]).toEqual([...whole.perToken]);
  expect(parts.mean).toBe(whole.mean);
  expect(small.pool.peakBytes).toBeLessThanOrEqual(bytes);
  await small.dispose();
});

test("means are means of what belongs together", async () => {
  const golden = new Golden("digits");
  const { numTokens, sides } = model.architecture;
  const tokens = golden.i32("heldout/tokens").subarray(0, 9 * numTokens);
  const labels = [...golden.i32("heldout/labels").subarray(0, 9)];
  const score = await model.score({ tokens: Int32Array.from(tokens), labels });
  const recorded = golden.f32("heldout/loss_per_token").subarray(0, 9 * numTokens);
  expect(maxDifference(score.perToken, recorded)).toBeLessThan(1e-4);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const all = [...score.perToken];
  expect(score.mean).toBeCloseTo(mean(all), 6);
  score.perImage.forEach((loss, i) => {
    expect(loss).toBeCloseTo(mean(all.slice(i * numTokens, (i + 1) * numTokens)), 6);
  });
  let offset = 0;
  sides.forEach((side, k) => {
    const of = all.filter((_, i) => i % numTokens >= offset && i % numTokens < offset + side * side);
    expect(score.perScale[k]).toBeCloseTo(mean(of), 6);
    offset += side * side;
  });
});

test("images per run: half of what the pool holds, at least one, at most 64", () => {
  expect(imagesPerRun(10)).toBe(5);
  expect(imagesPerRun(1)).toBe(1);
  expect(imagesPerRun(0)).toBe(1);
  expect(imagesPerRun(1e10)).toBe(64);
});

test("runs get their own images' labels and tokens", async () => {
  const { architecture } = model;
  const { numTokens, sides, numScales } = architecture;
  const seen: number[][] = [];
  const { tokens } = draw(5);
  /** Every loss is the image's label. */
  const generate = (request: NativeRequest, onEvent: (event: NativeScaleEvent | NativeEndEvent) => void) => {
    const labels = [...request.labels];
    seen.push(labels);
    expect(request.givenTokens!.length).toBe(labels.length * numTokens);
    const scales = sides.map((side, index) => ({
      type: "scale" as const,
      index,
      side,
      losses: Float32Array.from({ length: labels.length * side * side }, (_, i) => labels[Math.floor(i / side ** 2)]!),
    }));
    setImmediate(() => {
      for (const scale of scales) onEvent(scale as unknown as NativeScaleEvent);
      onEvent({ type: "end", code: null, message: "", neededBytes: 0, availableBytes: 0, deepestFit: 0 });
    });
    return { id: 1 } as NativeGeneration;
  };
  const score = await scoreTokens({
    native: { generate },
    lifecycle: new Lifecycle(async () => undefined),
    architecture,
    conditions: { count: 5, numMixed: 1, labels: Int32Array.of(1, 2, 3, 4, 5), weights: null },
    tokens,
    plan: { depths: new Int32Array(numScales).fill(8), deadlineMs: 0, deadlineDepths: new Int32Array(0) },
    batch: 2,
    signal: undefined,
    callSite: new CallSite(scoreTokens),
    log: () =>
      new Observer(undefined).log({
        conditions: resolveConditions(1, { numClasses: 10, classNames: [] }),
        seed: 0,
        plan: {} as DepthPlan,
      }),
  });
  expect(seen).toEqual([[1, 2], [3, 4], [5]]);
  expect(score.perImage).toEqual([1, 2, 3, 4, 5]);
  expect(score.perScale.every((loss) => loss === 3)).toBe(true);
});
