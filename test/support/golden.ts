/** The recorded reference: opens its models, hands out its tensors and remembers which were asked for. */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadModel } from "../../lib/model/load.js";
import type { Model } from "../../lib/model/model.js";
import type { LoadOptions } from "../../lib/options/load.js";
import { readTensors, type Tensor } from "./safetensors.js";

export type GoldenName = "tiny" | "tiny-shared" | "digits";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "golden");

export function goldenPath(name: GoldenName, file: string): string {
  return join(folder, name, file);
}

export interface GoldenConfig {
  var: { depth: number; num_heads: number; patch_nums: number[] };
  subnets: { name: string; depth_per_scale: number[] }[];
  grads_sub: { depth_per_scale: number[] };
}

export function goldenConfig(name: "tiny" | "tiny-shared"): GoldenConfig {
  return JSON.parse(readFileSync(goldenPath(name, "config.json"), "utf8")) as GoldenConfig;
}

/** Opens the pair; `varFile` may name another file with the transformer's weights. */
export function openGolden(name: GoldenName, varFile = "var.pth", options: LoadOptions = {}): Promise<Model> {
  const shape: LoadOptions = { dtype: "f32" }; // on a CUDA device, too (NEXTSCALE_DEVICE=cuda)
  if (name === "tiny-shared") {
    // Without L2-norm attention nothing in the file tells the heads.
    const config = goldenConfig(name);
    shape.heads = config.var.num_heads;
    shape.sides = config.var.patch_nums;
  }
  const source = { var: goldenPath(name, varFile), tokenizer: goldenPath(name, "vae.pth") };
  return loadModel(source, { threads: 2, ...shape, ...options });
}

export class Golden {
  readonly #tensors: Map<string, Tensor>;
  readonly #asked = new Set<string>();

  constructor(name: GoldenName) {
    this.#tensors = readTensors(goldenPath(name, "expected.safetensors"));
  }

  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no recorded tensor ${name}`);
    this.#asked.add(name);
    return tensor;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  f32(name: string): Float32Array {
    return this.get(name).data as Float32Array;
  }

  i32(name: string): Int32Array {
    return this.get(name).data as Int32Array;
  }

  /** Names that nobody has asked for, except those that start with one of `others`. */
  unasked(others: string[]): string[] {
    return [...this.#tensors.keys()].filter(
      (name) => !this.#asked.has(name) && !others.some((start) => name.startsWith(start)),
    );
  }
}

/** Largest absolute difference; NaN and a wrong length count as infinite. */
export function maxDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}

/** `[B, rows, columns]` -> `[B, columns, rows]`. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += rows * columns) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        result[start + column * rows + row] = data[start + row * columns + column]!;
      }
    }
  }
  return result;
}
