/** Item 15 of the log: callbacks of the caller, and objects of one thread. */

import { AsyncLocalStorage } from "node:async_hooks";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { MessageChannel } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { convertCheckpoint, inspectCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { TokenSet, tokenizeImages } from "../../lib/data/index.js";
import { evaluateModel } from "../../lib/evaluate/index.js";
import { Image } from "../../lib/image/image.js";
import { loadModel, loadTokenizer } from "../../lib/model/load.js";
import { bundledModelPath } from "../../lib/native/binding.js";
import { sampleModel } from "../../lib/sample/index.js";
import { planTraining } from "../../lib/train/train.js";
import { scratchFolder } from "../support/cli.js";

const OPTIONS = { threads: 1, device: "cpu" } as const;

/** Warnings that are emitted while `work` runs. */
async function warningsOf(work: () => Promise<unknown>): Promise<string[]> {
  const warnings: string[] = [];
  const listen = ({ message }: Error) => warnings.push(message);
  process.on("warning", listen);
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 20));
  } finally {
    process.off("warning", listen);
  }
  return warnings;
}

test("run in the asynchronous context of the call that took them", async () => {
  const storage = new AsyncLocalStorage<string>();
  const seen = new Set<string>();
  const model = await storage.run("load", () =>
    loadModel(undefined, {
      ...OPTIONS,
      onProgress: () => seen.add(`progress ${storage.getStore()}`),
      onEvent: ({ type }) => seen.add(`${type} ${storage.getStore()}`),
    }),
  );
  await Promise.all(["a", "b"].map((id) => storage.run(id, () => model.generate({ labels: 1 }).images())));
  await storage.run("dispose", () => model.dispose());
  const types = ["request", "start", "scale", "end"];
  expect([...seen].sort()).toEqual(["progress load", ...types.flatMap((type) => [`${type} a`, `${type} b`])].sort());
});

describe("what one throws", () => {
  test.each([
    [
      "at once",
      () => {
        throw new Error("boom");
      },
    ],
    [
      "later",
      async () => {
        throw new Error("boom");
      },
    ],
  ])("%s is one warning", async (_, onProgress) => {
    const warnings = await warningsOf(async () => {
      await (await loadModel(undefined, { ...OPTIONS, onProgress })).dispose();
      await (await loadTokenizer(undefined, { ...OPTIONS, onProgress })).dispose();
    });
    expect(warnings).toEqual(["onProgress failed: boom", "onProgress failed: boom"]); // one for each call
  });
});

test("models, tokenizers and generations cannot be cloned, images can", async () => {
  await using model = await loadModel(undefined, OPTIONS);
  await using tokenizer = await loadTokenizer(undefined, OPTIONS);
  const generation = model.generate({ labels: 1 });
  const { port1 } = new MessageChannel();
  for (const object of [model, tokenizer, generation]) {
    expect(() => structuredClone(object)).toThrow(expect.objectContaining({ name: "DataCloneError" }));
    expect(() => port1.postMessage({ object })).toThrow(expect.objectContaining({ name: "DataCloneError" }));
  }
  port1.close();
  const [image] = await generation.images();
  expect(structuredClone(image)!.data).toEqual(image!.data);
});

test("a file: URL works where a path does, and what is no path is refused by name", async () => {
  const folder = scratchFolder();
  const bundled = pathToFileURL(bundledModelPath());
  await using model = await loadModel(bundled, OPTIONS);
  await (await loadTokenizer(bundled, OPTIONS)).dispose();
  expect((await inspectCheckpoint(bundled)).name).toBe((await openCheckpoint([bundled])).name);
  const [image] = await model.generate({ labels: 1, seed: 1 }).images();
  mkdirSync(join(folder, "images", "one"), { recursive: true });
  await image!.toFile(pathToFileURL(join(folder, "images", "one", "a b.png")));
  const at = (name: string) => pathToFileURL(join(folder, name));
  expect((await Image.from(at("images/one/a b.png"))).width).toBe(32);
  await tokenizeImages({ model, images: at("images"), output: at("tokens") });
  await TokenSet.open(at("tokens"));
  await evaluateModel({ model, tokens: at("tokens"), depths: [2] });
  await sampleModel({ model, output: at("x.npz"), perClass: 1, classes: [1], depth: 2, guidance: 0 });
  await convertCheckpoint({ source: bundled, output: at("copy.safetensors") });
  expect(readdirSync(folder).sort()).toEqual(["copy.safetensors", "images", "tokens", "x.npz", "x.npz.json"]);
  const plan = await planTraining({ base: at("copy.safetensors"), tokens: at("tokens"), output: at("run"), steps: 1 });
  expect(plan.plan.classes.rule).toBe("name");
  for (const bad of [new URL("https://example.org/x"), "a\0b", ""]) {
    await expect(loadModel(bad)).rejects.toMatchObject({ code: "INVALID_OPTION", option: "source" });
  }
});
