import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { fakeModel } from "./support/fake-engine.js";
import { rejection, unhandledDuring } from "./support/rejections.js";

test("a consumer that does not read holds nothing back: the engine ends while it sleeps", async () => {
  const { model, engine } = fakeModel();
  const generation = model.generate();
  const iterator = generation[Symbol.asyncIterator]();
  await iterator.next();
  await sleep(30);
  expect(engine.running).toBe(0);
  const rest: number[] = [];
  for await (const scale of iterator) rest.push(scale.index);
  expect(rest).toEqual([1, 2, 3]);
});

test("every iteration starts at the first scale, during the run and after it", async () => {
  const { model } = fakeModel();
  const generation = model.generate();
  const read = async () => {
    const indices: number[] = [];
    for await (const scale of generation) indices.push(scale.index);
    return indices;
  };
  expect(await Promise.all([read(), read()])).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
  expect(await read()).toEqual([0, 1, 2, 3]);
});

test("several next() calls at once get different scales", async () => {
  const { model } = fakeModel();
  const iterator = model.generate()[Symbol.asyncIterator]();
  const results = await Promise.all(Array.from({ length: 6 }, () => iterator.next()));
  expect(results.map((result) => (result.done ? null : result.value.index))).toEqual([0, 1, 2, 3, null, null]);
});

test("leaving the loop early cancels; images() then rejects with an AbortError", async () => {
  const { model, engine } = fakeModel();
  const generation = model.generate();
  for await (const scale of generation) if (scale.index === 1) break;
  expect(engine.log).toContain("cancel");
  expect(await rejection(generation.images())).toMatchObject({ name: "AbortError", code: "ABORTED" });
});

test("leaving the loop at the last scale does not", async () => {
  const { model, engine } = fakeModel();
  const generation = model.generate({ labels: 2 });
  for await (const scale of generation) if (scale.index === scale.total - 1) break;
  expect((await generation.images())[0]!.data[0]).toBe(2);
  expect(engine.log).toEqual(["decode"]);
});

test("a failure of the core comes after the scales before it, as the same typed error everywhere", async () => {
  const { model, engine } = fakeModel();
  engine.failure = { code: "NOT_FINITE", message: "logits of scale 2 are NaN" };
  engine.failAt = 2;
  const generation = model.generate();
  const images = generation.images();
  const indices: number[] = [];
  const error = await rejection(
    (async () => {
      for await (const scale of generation) indices.push(scale.index);
    })(),
  );
  expect(indices).toEqual([0, 1]);
  expect(error).toMatchObject({ name: "NotFiniteError", code: "NOT_FINITE", message: "logits of scale 2 are NaN" });
  expect(await rejection(images)).toBe(error);
  expect(await rejection(generation.tokens())).toBe(error);
});

test("the stack of a late failure starts where generate() was called", async () => {
  const { model, engine } = fakeModel();
  engine.failure = { code: "INTERNAL" };
  const error = await rejection(model.generate().images());
  expect(error.stack!.split("\n")[1]).toContain("21.stream.test.ts");
});

test("a failure that nobody waits for, or that one of two waits for, is never an unhandled rejection", async () => {
  const seen = await unhandledDuring(async () => {
    const { model, engine } = fakeModel();
    engine.failure = { code: "INTERNAL" };
    model.generate();
    const generation = model.generate();
    void generation.images();
    void generation.tokens();
    await rejection(generation[Symbol.asyncIterator]().next());
  });
  expect(seen).toEqual([]);
});

test("the counter of unhandled rejections works", async () => {
  const reason = new Error("planted");
  expect(await unhandledDuring(async () => void Promise.reject(reason))).toEqual([reason]);
});
