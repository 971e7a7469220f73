/** Training checkpoints: whole or not there, whatever happens and whenever. */

import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { InvalidCheckpointError, IoError } from "../lib/errors.js";
import type { Files } from "../lib/files/atomic-file.js";
import type { TrainOptions } from "../lib/options/train.js";
import { openTrainingCheckpoint } from "../lib/train/checkpoint-file.js";
import type { TrainEvent } from "../lib/train/events.js";
import { train } from "../lib/train/train.js";
import { fakeAddon } from "./support/fake-trainer.js";
import { readTensors } from "./support/safetensors.js";
import { failingFiles, smallBase, smallOptions, tensorsOf } from "./support/training.js";

const SAVING = { save: { everySteps: 2 } };

function checkpointsOf({ output }: TrainOptions): string[] {
  return readdirSync(output)
    .filter((name) => name.endsWith(".checkpoint"))
    .sort();
}

/** A process that is killed: after `after` calls nothing that it asks for happens any more, clearing up included. */
function killedFiles(after: number): Files & { calls: number; dead: () => boolean } {
  const files = {
    calls: 0,
    dead: () => files.calls > after,
    async rename(...args: Parameters<typeof fs.rename>) {
      guard();
      return fs.rename(...args);
    },
    async rm(...args: Parameters<typeof fs.rm>) {
      guard();
      return fs.rm(...args);
    },
    async open(...args: Parameters<typeof fs.open>) {
      guard();
      const handle = await fs.open(...args);
      for (const method of ["write", "sync", "appendFile"] as const) {
        const original = handle[method].bind(handle) as (...rest: unknown[]) => Promise<unknown>;
        Object.assign(handle, {
          [method]: async (...rest: unknown[]) => {
            guard();
            return original(...rest);
          },
        });
      }
      return handle;
    },
  };
  const guard = () => {
    if (files.calls++ >= after) throw new Error("killed");
  };
  return files;
}

describe("a checkpoint", () => {
  test("holds weights, moments and average under their names, and opens again", async () => {
    const base = await smallBase("content");
    const addon = fakeAddon();
    const options = smallOptions(base, SAVING);
    await train(options, { addon });
    const path = join(options.output, "step-000012.checkpoint");
    const tensors = readTensors(path); // a reader of its own: it is an ordinary safetensors file
    const trainer = addon.trainers[0]!;
    for (const array of ["weights", "mean", "variance", "average"] as const) {
      for (const { name, shape } of trainer.parameters) {
        const stored = tensors.get(`${array}.${name}`)!;
        const held = new Float32Array(stored.data.length);
        trainer.read(array, name, held);
        expect(stored.shape).toEqual(shape);
        expect(Buffer.from(held.buffer).equals(Buffer.from(stored.data.buffer))).toBe(true);
      }
    }
    expect(tensors.size).toBe(4 * trainer.parameters.length);
    expect((await openTrainingCheckpoint(path)).state).toMatchObject({ step: 12, optimizerSteps: 12 });
  });

  test("with any byte changed, or cut anywhere, is refused", async () => {
    const base = await smallBase("bytes");
    const options = smallOptions(base, { ...SAVING, steps: 2 });
    await train(options, { addon: fakeAddon() });
    const path = join(options.output, "step-000002.checkpoint");
    const whole = readFileSync(path);
    const headerEnd = 8 + Number(whole.readBigUInt64LE(0));
    const copy = join(options.output, "copy.checkpoint");
    writeFileSync(copy, whole);
    expect((await openTrainingCheckpoint(copy)).bytes).toBe(whole.length);
    const places = [0, 3, 8, 20, 60, 100, headerEnd - 1, headerEnd, headerEnd + 1, whole.length >> 1, whole.length - 1];
    for (const place of places) {
      const bytes = Buffer.from(whole);
      bytes[place]! ^= 0x10;
      writeFileSync(copy, bytes);
      await expect(openTrainingCheckpoint(copy), `byte ${place}`).rejects.toThrow(InvalidCheckpointError);
      writeFileSync(copy, whole.subarray(0, place));
      await expect(openTrainingCheckpoint(copy), `cut at ${place}`).rejects.toThrow(InvalidCheckpointError);
    }
    writeFileSync(copy, Buffer.concat([whole, Buffer.alloc(1)]));
    await expect(openTrainingCheckpoint(copy)).rejects.toThrow(InvalidCheckpointError);
  });
});

describe("resuming", () => {
  test("passes over a damaged checkpoint, says so, and ends with the same bits", async () => {
    const base = await smallBase("damaged");
    const { model } = await train(smallOptions(base), { addon: fakeAddon() });
    for (const damage of ["truncated", "flipped", "empty", "renamed"] as const) {
      const options = smallOptions(base, SAVING);
      await expect(train(options, { addon: fakeAddon({ divergeAt: 9 }) })).rejects.toThrow(/step 9/);
      const last = join(options.output, "step-000008.checkpoint");
      const bytes = readFileSync(last);
      if (damage === "truncated") writeFileSync(last, bytes.subarray(0, bytes.length - 1000));
      if (damage === "flipped") writeFileSync(last, bytes.fill(bytes[2000]! ^ 1, 2000, 2001));
      if (damage === "empty") writeFileSync(last, "");
      if (damage === "renamed") copyFileSync(join(options.output, "run.json"), last);
      const events: TrainEvent[] = [];
      const onEvent = (event: TrainEvent) => events.push(event);
      const resumed = await train({ ...options, resume: true, onEvent }, { addon: fakeAddon() });
      const warning = events.find(({ type }) => type === "warning") as { message: string };
      expect(warning.message).toMatch(/step-000008\.checkpoint: /);
      expect(events.find(({ type }) => type === "start")).toMatchObject({ step: 6, resumed: true });
      expect(tensorsOf(resumed.model)).toEqual(tensorsOf(model));
    }
  });

  test("after a kill at any file operation ends with the same bits", { timeout: 120_000 }, async () => {
    const base = await smallBase("killed");
    const more = { steps: 6, save: { everySteps: 2 } };
    const whole = smallOptions(base, more);
    const counted = killedFiles(Number.POSITIVE_INFINITY);
    const { model } = await train(whole, { addon: fakeAddon(), files: counted });
    const expected = tensorsOf(model);
    const checkpointed = readFileSync(join(whole.output, "step-000004.checkpoint"));
    const seen = new Set<number>();
    // Every operation near a save would be hundreds of runs: the first and last ones of each file, and a few between.
    const total = counted.calls;
    const moments = Array.from({ length: 20 }, (_, index) => Math.floor((index * (total + 1)) / 20));
    for (const after of new Set([...moments, total - 1, total - 2, total - 3])) {
      const options = smallOptions(base, more);
      const files = killedFiles(after);
      await train(options, { addon: fakeAddon(), files }).catch(() => undefined);
      expect(files.dead()).toBe(true);
      // All are whole.
      for (const name of checkpointsOf(options)) await openTrainingCheckpoint(join(options.output, name));
      const events: TrainEvent[] = [];
      const onEvent = (event: TrainEvent) => events.push(event);
      const resumed = await train({ ...options, resume: true, onEvent }, { addon: fakeAddon() });
      const start = events.find(({ type }) => type === "start") as { step: number } | undefined;
      if (start !== undefined) seen.add(start.step);
      expect(tensorsOf(resumed.model)).toEqual(expected);
      expect(readdirSync(options.output).filter((name) => name.endsWith(".tmp"))).toEqual([]);
      const again = readFileSync(join(options.output, "step-000004.checkpoint"));
      expect(again.length).toBe(checkpointed.length);
    }
    expect([...seen].sort()).toEqual([0, 2, 4]); // the kills fell into every part of the run
  });
});

describe("a full disk", () => {
  test("at any write is an IoError, leaves the previous checkpoints whole, and the run can go on later", async () => {
    const base = await smallBase("full");
    const { model } = await train(smallOptions(base, { steps: 6 }), { addon: fakeAddon() });
    const more = { steps: 6, save: { everySteps: 2 } };
    const counted = failingFiles(Number.POSITIVE_INFINITY, "ENOSPC");
    await train(smallOptions(base, more), { addon: fakeAddon(), files: counted });
    const total = counted.writes;
    for (const after of [0, 1, 2, 3, Math.floor(total / 2), Math.floor((2 * total) / 3), total - 1]) {
      const options = smallOptions(base, more);
      const addon = fakeAddon();
      const stopped = train(options, { addon, files: failingFiles(after, "ENOSPC") });
      await expect(stopped, `write ${after} of ${total}`).rejects.toThrow(IoError);
      await expect(stopped).rejects.toThrow(/cannot write .*(checkpoint|metrics\.jsonl): no space left on the device/);
      expect(addon.trainers[0]!.disposals).toBe(1);
      expect(readdirSync(options.output).filter((name) => name.endsWith(".tmp"))).toEqual([]);
      for (const name of checkpointsOf(options)) await openTrainingCheckpoint(join(options.output, name));
      if (after >= total / 2) expect(checkpointsOf(options).length).toBeGreaterThan(0);
      const resumed = await train({ ...options, resume: true }, { addon: fakeAddon() });
      expect(tensorsOf(resumed.model)).toEqual(tensorsOf(model));
    }
  });
});

test("as many checkpoints are kept as were asked for, the newest ones", async () => {
  const base = await smallBase("keep");
  for (const keep of [1, 3]) {
    const options = smallOptions(base, { save: { everySteps: 2, keep } });
    await train(options, { addon: fakeAddon() });
    const expected = ["step-000008.checkpoint", "step-000010.checkpoint", "step-000012.checkpoint"].slice(-keep);
    expect(checkpointsOf(options)).toEqual(expected);
    expect(existsSync(join(options.output, "model.safetensors"))).toBe(true);
  }
});
