/**
 * Small trainings for tests: a tokenizer with random weights, tokens in memory, options with a run folder of their own.
 */

import { mkdtempSync, rmSync } from "node:fs";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { inspectCheckpoint, tokenizerFingerprint } from "../../lib/checkpoint/index.js";
import { shardName, writeManifest } from "../../lib/data/manifest.js";
import { encodeShard, hashOf } from "../../lib/data/shard.js";
import type { Files } from "../../lib/files/atomic-file.js";
import type { TrainOptions } from "../../lib/options/train.js";
import { numTokens } from "../../lib/values/architecture.js";
import type { TokenSource } from "../../lib/values/token-source.js";
import { writePair } from "./checkpoint-files.js";
import { Random, type RandomModel } from "./random-checkpoint.js";
import { readTensors } from "./safetensors.js";

export const SIDES = [1, 2, 3];
export const CODEBOOK = 24;

export interface MemoryTokensOptions {
  length?: number;
  classes?: string[];
  sides?: number[];
  codebookSize?: number;
  fingerprint: string;
  seed?: number;
  /** Default: the images take turns. */
  labelOf?: (index: number) => number;
}

/** A token set of random tokens in memory. */
export function memoryTokens(options: MemoryTokensOptions): TokenSource & { tokens: Int32Array } {
  const {
    length = 20,
    classes = ["a", "b", "c"],
    sides = SIDES,
    codebookSize = CODEBOOK,
    fingerprint,
    seed = 3,
  } = options;
  const random = new Random(seed);
  const size = numTokens(sides);
  const tokens = Int32Array.from({ length: length * size }, () => random.below(codebookSize));
  const labels = Int32Array.from({ length }, (_, index) => (options.labelOf ?? ((i) => i % classes.length))(index));
  return {
    length,
    classes,
    sides,
    codebookSize,
    fingerprint,
    labels,
    tokens,
    async read(indices) {
      const list = Array.from(indices);
      return {
        tokens: Int32Array.from(list.flatMap((index) => [...tokens.subarray(index * size, (index + 1) * size)])),
        labels: Int32Array.from(list, (index) => labels[index]!),
      };
    },
  };
}

/** A folder that goes away with the test. */
export function runFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "nextscale-train-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "run");
}

/** Files of a tiny model, its tokenizer's fingerprint, and tokens that belong to it. */
export async function smallBase(name: string, model: RandomModel = {}) {
  const pair = writePair(name, { depth: 4, width: 12, heads: 2, numClasses: 3, sides: SIDES, ...model });
  const fingerprint = await tokenizerFingerprint(await inspectCheckpoint({ tokenizer: pair.tokenizer }));
  return { pair, fingerprint, tokens: memoryTokens({ fingerprint }) };
}

/** A run of 12 steps that is over in a moment: three phases, two subnets, an average. */
export function smallOptions(
  { pair, tokens }: { pair: { var: string; tokenizer: string }; tokens: TokenSource },
  more: Partial<TrainOptions & { output: string }> = {},
): TrainOptions & { output: string } {
  return {
    base: pair,
    tokens,
    output: runFolder(),
    depths: [2, 3],
    bridge: 1,
    steps: 12,
    batch: 4,
    ratio: { start: 0.3, end: 1 },
    learningRate: 0.01,
    averageDecay: 0.9,
    samples: 0,
    threads: 1,
    seed: 5,
    ...more,
  };
}

/** Tensors of a model, in hexadecimal: equal means equal bit by bit. */
export function tensorsOf(path: string): Map<string, string> {
  return new Map([...readTensors(path)].map(([name, { data }]) => [name, hexOf(data)]));
}

export function hexOf({ buffer, byteOffset, byteLength }: ArrayBufferView): string {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength).toString("hex");
}

/** The part of node:fs/promises that the run folder writes with, with one write call after `after` others failing. */
export function failingFiles(after: number, code: string): Files & { writes: number } {
  const files = {
    writes: 0,
    rename: fs.rename,
    rm: fs.rm,
    async open(...args: Parameters<typeof fs.open>) {
      const handle = await fs.open(...args);
      const guard = () => {
        if (files.writes++ < after) return;
        throw Object.assign(new Error(`${code}: write`), { code, syscall: "write" });
      };
      const [write, appendFile] = [handle.write.bind(handle), handle.appendFile.bind(handle)];
      handle.write = (async (...rest: unknown[]) => {
        guard();
        return (write as (...all: unknown[]) => unknown)(...rest);
      }) as typeof handle.write;
      handle.appendFile = async (...rest) => {
        guard();
        return appendFile(...rest);
      };
      return handle;
    },
  };
  return files;
}

/** The same set as a folder of one shard. */
export async function writeTokenSet(folder: string, source: ReturnType<typeof memoryTokens>): Promise<void> {
  const { length, sides, codebookSize, fingerprint, classes, labels, tokens } = source;
  const bytes = encodeShard({ count: length, numTokens: numTokens(sides), codebookSize }, labels, tokens);
  await fs.mkdir(folder, { recursive: true });
  await fs.writeFile(join(folder, shardName(0)), bytes);
  await writeManifest(folder, {
    version: 1,
    sides: [...sides],
    codebookSize,
    codeDim: 6,
    fingerprint,
    classes: [...classes],
    pictures: { side: 8, fit: "cover", resize: 8, crop: "centre", flip: false, seed: "0" },
    plan: "0".repeat(64),
    entries: length,
    shards: [{ file: shardName(0), entries: length, count: length, sha256: await hashOf(bytes) }],
    skipped: [],
  });
}
