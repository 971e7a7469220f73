import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { ARCHITECTURE, fakeModel } from "./support/fake-engine.js";
import { rejection, unhandledDuring } from "./support/rejections.js";

const ABORTED = { name: "AbortError", code: "ABORTED" };

test("an aborted signal stops the generation; the error carries the signal's reason", async () => {
  const { model, engine } = fakeModel();
  engine.scaleMs = 5;
  const controller = new AbortController();
  const generation = model.generate({ signal: controller.signal });
  const reason = new Error("the client has gone");
  setTimeout(() => controller.abort(reason), 7);
  const error = await rejection(generation.images());
  expect(error).toMatchObject({ ...ABORTED, cause: reason });
  expect(engine.log).toEqual(["cancel"]);
});

test("a signal that is aborted already: nothing starts", async () => {
  const { model, engine } = fakeModel();
  const generation = model.generate({ signal: AbortSignal.abort() });
  expect(await rejection(generation.images())).toMatchObject(ABORTED);
  expect(engine.requests).toEqual([]);
  await model.dispose();
});

test.each(ARCHITECTURE.sides.map((_, k) => k))(
  "abort at scale %i: the iterator throws, everything settles, no listener stays",
  async (at) => {
    const { model, engine } = fakeModel();
    const controller = new AbortController();
    let listeners = 0;
    const { signal } = controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = ((...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    }) as typeof add;
    signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    }) as typeof remove;
    const seen = await unhandledDuring(async () => {
      const generation = model.generate({ signal });
      const images = generation.images();
      const error = await rejection(
        (async () => {
          for await (const scale of generation) if (scale.index === at) controller.abort();
        })(),
      );
      expect(error).toMatchObject(ABORTED);
      expect(await rejection(images)).toMatchObject(ABORTED);
    });
    expect(seen).toEqual([]);
    expect(engine.running).toBe(0);
    expect(listeners).toBe(0);
  },
);

test("cancel(): waiting consumers are let go at once, not when the core has noticed", async () => {
  const { model, engine } = fakeModel();
  engine.scaleMs = 1000;
  const generation = model.generate();
  const started = performance.now();
  setTimeout(() => generation.cancel(), 5);
  expect(await rejection(generation[Symbol.asyncIterator]().next())).toMatchObject(ABORTED);
  expect(performance.now() - started).toBeLessThan(500);
});

test("after its error an iterator is done, and cancel() again changes nothing", async () => {
  const { model } = fakeModel();
  const generation = model.generate();
  const iterator = generation[Symbol.asyncIterator]();
  generation.cancel();
  const error = await rejection(iterator.next());
  generation.cancel();
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
  expect(await rejection(generation.images())).toBe(error);
});

test("cancel() after the end changes nothing", async () => {
  const { model } = fakeModel();
  const generation = model.generate();
  const images = await generation.images();
  generation.cancel();
  expect(await generation.images()).toBe(images);
});

test("an abort during decoding rejects images()", async () => {
  const { model, engine } = fakeModel();
  engine.decodeMs = 200;
  const controller = new AbortController();
  const generation = model.generate({ signal: controller.signal });
  for await (const _ of generation);
  const images = generation.images();
  await sleep(5);
  controller.abort("enough");
  const started = performance.now();
  expect(await rejection(images)).toMatchObject({ ...ABORTED, cause: "enough" });
  expect(performance.now() - started).toBeLessThan(150);
});

test("await using waits until the core has let go", async () => {
  const { model, engine } = fakeModel();
  engine.scaleMs = 5;
  const generation = model.generate();
  await generation[Symbol.asyncDispose]();
  expect(engine.running).toBe(0);
  expect(await rejection(generation.images())).toMatchObject(ABORTED);
});
