/**
 * `nextscale train` in processes of its own: killed at random moments, stopped by Ctrl-C, resumed. With the real
 * trainer.
 */

import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { inspectCheckpoint, tokenizerFingerprint } from "../lib/checkpoint/index.js";
import { readMetrics } from "../lib/train/metrics.js";
import { scratchFolder } from "./support/cli.js";
import { goldenConfig, goldenPath } from "./support/golden.js";
import { memoryTokens, tensorsOf, writeTokenSet } from "./support/training.js";

const bin = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "cli.js");
const STEPS = 30;

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

/** Runs the command; `onText` is told of everything on stderr so far. */
function nextscale(
  words: string[],
  onText?: (text: string, kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...words], { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
      onText?.(stderr, (signal) => child.kill(signal));
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stderr }));
  });
}

/** A folder with tokens and supernet.json for the golden tiny model. */
async function prepare(): Promise<{ folder: string; config: string }> {
  const folder = scratchFolder();
  const base = { var: goldenPath("tiny", "var.pth"), tokenizer: goldenPath("tiny", "vae.pth") };
  const info = await inspectCheckpoint(base);
  const { sides, codebookSize, numClasses } = info.config!;
  const fingerprint = await tokenizerFingerprint(info);
  const classes = Array.from({ length: numClasses }, (_, index) => `class ${index}`);
  const set = { classes, sides, codebookSize, fingerprint };
  await writeTokenSet(join(folder, "tokens"), memoryTokens({ ...set, length: 24 }));
  await writeTokenSet(join(folder, "heldout"), memoryTokens({ ...set, length: 4, seed: 8 }));
  const { depth } = goldenConfig("tiny").var;
  const config = join(folder, "supernet.json");
  writeFileSync(
    config,
    JSON.stringify({
      ...{ base, tokens: "tokens", heldout: "heldout", depths: [2, depth / 2], bridge: 2, steps: STEPS, batch: 4 },
      ...{ learningRate: 1e-4, averageDecay: 0.9, samples: 0, threads: 2, evaluation: { everySteps: 10 } },
      save: { everySteps: 2 },
    }),
  );
  return { folder, config };
}

/** Everything of a finished run that must not depend on how often it was interrupted. */
async function resultOf(run: string) {
  const lines = await readMetrics(join(run, "metrics.jsonl"));
  return {
    model: tensorsOf(join(run, "model.safetensors")),
    checkpoint: tensorsOf(join(run, `step-${String(STEPS).padStart(6, "0")}.checkpoint`)),
    lines: lines.map((line) => (line.type === "step" ? { ...line, ms: 0, tokensPerSecond: 0 } : line)),
  };
}

describe("a run that is killed", () => {
  test("at random moments ends with the same bits as one that was left alone", { timeout: 300_000 }, async () => {
    const { folder, config } = await prepare();
    const whole = join(folder, "whole");
    const begin = performance.now();
    expect(await nextscale(["train", "-c", config, "-o", whole, "--verbose"])).toMatchObject({ code: 0 });
    const wholeMs = performance.now() - begin;
    const expected = await resultOf(whole);

    const run = join(folder, "killed");
    const moments: number[] = [];
    let kills = 0;
    while (kills < 4) {
      const moment = Math.random() * wholeMs * 0.9;
      moments.push(Math.round(moment));
      let timer: NodeJS.Timeout | undefined;
      const ended = await nextscale(["train", "-c", config, "-o", run, "--resume", "--verbose"], (_, kill) => {
        timer ??= setTimeout(() => kill("SIGKILL"), moment);
      });
      clearTimeout(timer);
      if (ended.signal !== "SIGKILL") break; // it was done before
      kills++;
    }
    const last = await nextscale(["train", "-c", config, "-o", run, "--resume", "--verbose"]);
    expect(last, `killed after ${moments.join(", ")} ms: ${last.stderr}`).toMatchObject({ code: 0 });
    expect(kills, `moments ${moments.join(", ")} of ${Math.round(wholeMs)} ms`).toBeGreaterThan(0);
    expect(await resultOf(run), `killed after ${moments.join(", ")} ms`).toEqual(expected);
    expect(readdirSync(run).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

test("Ctrl-C finishes the step, saves, and exits with 130; --resume alone ends with the same bits", {
  timeout: 300_000,
}, async () => {
  const { folder, config } = await prepare();
  const [whole, run] = [join(folder, "whole"), join(folder, "stopped")];
  expect(await nextscale(["train", "-c", config, "-o", whole])).toMatchObject({ code: 0 });
  let sent = false; // a second one would kill
  const stopped = await nextscale(["train", "-c", config, "-o", run, "--verbose"], (text, kill) => {
    if (sent || !text.includes("step 7 of")) return;
    sent = true;
    kill("SIGINT");
  });
  expect(stopped).toMatchObject({ code: 130, signal: null });
  expect(stopped.stderr).toMatch(/stopped after step \d+, which is saved/);
  expect(existsSync(join(run, "model.safetensors"))).toBe(false);
  expect(await nextscale(["train", "--resume", "-o", run])).toMatchObject({ code: 0 });
  expect(await resultOf(run)).toEqual(await resultOf(whole));
});
