/**
 * A NativeTrainer in JavaScript, for what belongs to the schedule alone: order of steps, checkpoints, resumption,
 * failures. Its model is a toy: every weight is pulled towards a value that depends on the tokens, the labels and the
 * weight's place, in the blocks that the depths reach; its optimizer is AdamW as the contract describes it. All of its
 * state is in what `read` and `write` reach, and `steps`.
 */

import type {
  NativeAddon,
  NativeParameter,
  NativeStepResult,
  NativeTrainer,
  NativeTrainerSpec,
  NativeTrainStep,
  TrainerArray,
} from "../../lib/native/contract.js";
import { parameterShapes } from "../../lib/train/base.js";
import { numTokens } from "../../lib/values/architecture.js";

export interface FakeOptions {
  /** The update of this number (from 1) finds a NaN. */
  divergeAt?: number;
  /** Told of every step before it is done. */
  onStep?: (step: NativeTrainStep) => void;
  /** Milliseconds that a step takes at least. */
  stepMs?: number;
}

type Arrays = Record<TrainerArray, Float32Array>;

export class FakeTrainer implements NativeTrainer {
  readonly parameters: NativeParameter[];
  readonly memoryBytes: number;
  readonly log: string[] = [];
  steps = 0;
  disposals = 0;
  #busy = false;
  readonly #arrays = new Map<string, Arrays>();

  constructor(
    readonly spec: NativeTrainerSpec,
    readonly options: FakeOptions = {},
  ) {
    this.memoryBytes = fakeBytes(spec);
    this.parameters = [...parameterShapes(spec.config)].map(([name, shape]) => ({
      name,
      shape,
      decay: shape.length > 1 && !/emb|pos_|bias/.test(name),
    }));
    for (const [index, { name, shape }] of this.parameters.entries()) {
      const count = shape.reduce((product, side) => product * side, 1);
      const weights = Float32Array.from({ length: count }, (_, i) => noise(index, i, Number(spec.initialSeed ?? 7n)));
      const zeros = () => new Float32Array(count);
      this.#arrays.set(name, {
        weights,
        gradient: zeros(),
        mean: zeros(),
        variance: zeros(),
        average: Float32Array.from(weights),
      });
    }
  }

  async step(step: NativeTrainStep): Promise<NativeStepResult> {
    return this.#alone(async () => {
      this.options.onStep?.(step);
      const begin = performance.now();
      await new Promise((resolve) => setTimeout(resolve, this.options.stepMs ?? 0));
      const bad = this.steps + 1 === this.options.divergeAt;
      const { loss, square } = this.#gradients(step);
      const gradientNorm = Math.sqrt(square);
      if (bad || !Number.isFinite(loss + gradientNorm)) {
        const message = "the gradient of head.weight is NaN or infinite at element 0";
        throw Object.assign(new Error(message), { code: "NOT_FINITE" });
      }
      if (step.update) this.#update(step, gradientNorm);
      const lossPerScale = Float64Array.from(this.spec.config.sides, (side) => loss * (1 + 1 / side));
      return { loss, lossPerScale, gradientNorm, ms: performance.now() - begin };
    });
  }

  async evaluate(
    tokens: Int32Array,
    labels: Int32Array,
    depths: Int32Array,
    average: boolean,
    losses: Float32Array,
  ): Promise<void> {
    return this.#alone(async () => {
      this.log.push(`evaluate ${labels.length} at ${depths.join()}${average ? " averaged" : ""}`);
      losses.fill(this.#loss(pullOf(tokens, labels), depths, average ? "average" : "weights"));
    });
  }

  async logits(): Promise<void> {
    throw new Error("the fake trainer has no logits");
  }

  read(array: TrainerArray, name: string, out: Float32Array): void {
    out.set(this.#of(name)[array]);
  }

  write(array: TrainerArray, name: string, values: Float32Array): void {
    this.#of(name)[array].set(values);
  }

  async dispose(): Promise<void> {
    this.disposals++;
  }

  #of(name: string): Arrays {
    const arrays = this.#arrays.get(name);
    if (arrays === undefined) throw new Error(`no parameter ${name}`);
    return arrays;
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new Error("one call at a time");
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  #gradients({ tokens, labels, depths }: NativeTrainStep): { loss: number; square: number } {
    const pull = pullOf(tokens, labels);
    let square = 0;
    for (const [index, { name }] of this.parameters.entries()) {
      const { weights, gradient } = this.#of(name);
      const active = this.#isActive(name, depths);
      for (let i = 0; i < weights.length; i++) {
        gradient[i] = active ? weights[i]! - target(index, i, pull) : 0;
        square += gradient[i]! ** 2;
      }
    }
    return { loss: this.#loss(pull, depths, "weights"), square };
  }

  #loss(pull: number, depths: Int32Array, array: TrainerArray): number {
    let [sum, count] = [0, 0];
    for (const [index, { name }] of this.parameters.entries()) {
      if (!this.#isActive(name, depths)) continue;
      const weights = this.#of(name)[array];
      for (let i = 0; i < weights.length; i++) sum += (weights[i]! - target(index, i, pull)) ** 2;
      count += weights.length;
    }
    return sum / count;
  }

  /** A block is reached when any scale has it: `floor(i·(D−1)/(d−1))`. */
  #isActive(name: string, depths: Int32Array): boolean {
    const block = /^blocks\.(\d+)\./.exec(name)?.[1];
    if (block === undefined) return true;
    const { depth: full } = this.spec.config;
    return [...depths].some((depth) => {
      if (depth === full) return true;
      return Array.from({ length: depth }, (_, i) => Math.floor((i * (full - 1)) / (depth - 1))).includes(
        Number(block),
      );
    });
  }

  /** AdamW with decoupled decay, as torch.optim.AdamW. */
  #update(step: NativeTrainStep, norm: number): void {
    this.steps++;
    const { beta1, beta2, epsilon, learningRate, weightDecay, decayAll, clipNorm, averageDecay } = step;
    const clip = clipNorm > 0 && norm > clipNorm ? clipNorm / norm : 1;
    for (const { name, decay } of this.parameters) {
      const { weights, gradient, mean, variance, average } = this.#of(name);
      for (let i = 0; i < weights.length; i++) {
        const g = gradient[i]! * clip;
        if (decay || decayAll) weights[i]! *= 1 - learningRate * weightDecay;
        mean[i] = beta1 * mean[i]! + (1 - beta1) * g;
        variance[i] = beta2 * variance[i]! + (1 - beta2) * g * g;
        const m = mean[i]! / (1 - beta1 ** this.steps);
        const v = variance[i]! / (1 - beta2 ** this.steps);
        weights[i]! -= (learningRate * m) / (Math.sqrt(v) + epsilon);
        average[i] = averageDecay * average[i]! + (1 - averageDecay) * weights[i]!;
      }
    }
  }
}

function pullOf(tokens: Int32Array, labels: Int32Array): number {
  let sum = 0;
  tokens.forEach((token, i) => {
    sum += Math.sin(token + i);
  });
  labels.forEach((label, i) => {
    sum += Math.cos(3 * label + i);
  });
  return sum / (tokens.length + labels.length);
}

function target(index: number, i: number, pull: number): number {
  return 0.1 * Math.sin(index + 0.01 * i) + 0.05 * pull;
}

function noise(index: number, i: number, seed: number): number {
  return 0.2 * Math.sin(12.9898 * (index + 1) + 78.233 * (i + 1) + seed);
}

function fakeBytes({ config, microBatch, checkpointing, average }: Parameters<NativeAddon["trainerBytes"]>[0]): number {
  let weights = 0;
  for (const shape of parameterShapes(config).values()) weights += shape.reduce((product, side) => product * side, 1);
  const rows = microBatch * numTokens(config.sides);
  const activations = rows * config.width * (checkpointing ? 8 + config.depth : 20 * config.depth);
  return 4 * (weights * (average ? 5 : 4) + activations);
}

export interface FakeAddon extends Pick<NativeAddon, "openTrainer" | "trainerBytes" | "version"> {
  /** Trainers opened so far. */
  trainers: FakeTrainer[];
}

export function fakeAddon(options: FakeOptions = {}): FakeAddon {
  const trainers: FakeTrainer[] = [];
  return {
    version: "fake",
    trainers,
    trainerBytes: fakeBytes,
    openTrainer: async (spec) => {
      const trainer = new FakeTrainer(spec, options);
      trainers.push(trainer);
      return trainer;
    },
  };
}
