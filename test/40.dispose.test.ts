import { expect, test } from "vitest";
import { DisposedError } from "../lib/errors.js";
import { fakeModel } from "./support/fake-engine.js";
import { rejection, unhandledDuring } from "./support/rejections.js";

const pixels = { width: 8, height: 8, data: new Uint8Array(192) };

test("dispose() aborts what runs, waits for it, and frees the core once", async () => {
  const { model, engine } = fakeModel();
  engine.scaleMs = 5;
  const generations = [model.generate(), model.generate()];
  const images = generations.map((generation) => rejection(generation.images()));
  const disposal = model.dispose();
  expect(model.disposed).toBe(true);
  expect(model.dispose()).toBe(disposal);
  await Promise.all([disposal, model[Symbol.asyncDispose]()]);
  expect(engine.running).toBe(0);
  expect(engine.disposals).toBe(1);
  for (const error of await Promise.all(images)) expect(error).toMatchObject({ name: "AbortError", code: "ABORTED" });
});

test("disposal while nobody waits is never an unhandled rejection", async () => {
  const seen = await unhandledDuring(async () => {
    const { model, engine } = fakeModel();
    engine.scaleMs = 5;
    model.generate();
    void model.generate().images();
    model.generate({ preview: "linear" });
    await model.dispose();
  });
  expect(seen).toEqual([]);
});

test("every method of a disposed model throws a DisposedError", async () => {
  const { model } = fakeModel();
  await model.dispose();
  for (const call of [
    () => model.generate(),
    () => model.setDepth(4),
    () => model.stats(),
    () => model.pool,
    () => model.peakBytes(4),
  ]) {
    expect(call).toThrowError(DisposedError);
  }
  const tokens = new Int32Array(30);
  const calls = [
    model.encode(pixels),
    model.decode(tokens),
    model.score({ tokens, labels: 1 }),
    model.warmup(),
    model.fitPreview(),
  ];
  for (const call of calls) expect(await rejection(call)).toMatchObject({ name: "DisposedError", code: "DISPOSED" });
});

test("images that were decoded before disposal stay; others are gone with the model", async () => {
  const { model } = fakeModel();
  const [decoded, finished] = [model.generate(), model.generate()];
  const images = await decoded.images();
  for await (const _ of finished);
  await model.dispose();
  expect(await decoded.images()).toBe(images);
  expect(await rejection(finished.images())).toMatchObject({ code: "DISPOSED" });
});

test("disposal waits for encoding and decoding in flight", async () => {
  const { model, engine } = fakeModel();
  let release: () => void = () => undefined;
  engine.encode = () => ({ done: new Promise((resolve) => (release = resolve)), cancel: () => undefined });
  const order: string[] = [];
  const encoding = model.encode(pixels).then(() => order.push("encoded"));
  const disposal = model.dispose().then(() => order.push("disposed"));
  setTimeout(() => release(), 10);
  await Promise.all([encoding, disposal]);
  expect(order).toEqual(["encoded", "disposed"]);
});

test("a fit of the preview ends with its model, in whichever part it is", async () => {
  for (const part of ["featureMap", "decode"] as const) {
    const { model, engine } = fakeModel();
    const reached = new Promise<void>((resolve) => {
      engine[part] = () => {
        let stop: (error: Error) => void = () => undefined;
        const done = new Promise<void>((_, reject) => (stop = reject));
        resolve();
        return { done, cancel: () => stop(Object.assign(new Error("cancelled"), { code: "ABORTED" })) };
      };
    });
    const failed = rejection(model.fitPreview());
    await reached;
    await model.dispose();
    expect(await failed, part).toMatchObject({ code: "ABORTED" });
    expect(engine.matrix).toBeNull();
  }
});
