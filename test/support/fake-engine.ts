/**
 * A NativeModel made of timers, for what belongs to the facade alone: order, buffering, cancelling, disposal. It draws
 * `(label + scale + position) mod V`, decodes to the first token's grey, and keeps a log of the calls it got.
 */

import { Model } from "../../lib/model/model.js";
import type {
  NativeEndEvent,
  NativeGeneration,
  NativeJob,
  NativeModel,
  NativeRequest,
  NativeScaleEvent,
  NativeStats,
  NativeTokenizer,
} from "../../lib/native/contract.js";
import type { Architecture } from "../../lib/values/architecture.js";

export const ARCHITECTURE: Architecture = {
  depth: 8,
  width: 16,
  heads: 2,
  mlpWidth: 64,
  numClasses: 10,
  sharedAda: false,
  l2Norm: true,
  codebookSize: 32,
  codeDim: 4,
  numResidualConvs: 4,
  residualMix: 0.5,
  channels: 32,
  multipliers: [1, 2],
  numResBlocks: 1,
  sides: [1, 2, 3, 4],
  numScales: 4,
  numTokens: 30,
  imageSide: 8,
};

const END: NativeEndEvent = { type: "end", code: null, message: "", neededBytes: 0, availableBytes: 0, deepestFit: 0 };

export type Failure = Partial<NativeEndEvent> & { code: string };

export class FakeEngine implements NativeModel, NativeTokenizer {
  readonly tokenizer: NativeTokenizer = this;
  readonly log: string[] = [];
  readonly requests: NativeRequest[] = [];
  /** Ends the next generation with this instead of its scale `failAt`. */
  failure: Failure | null = null;
  failAt = 0;
  /** setDepth throws this once. */
  depthFailure: Failure | null = null;
  /** Milliseconds per scale. */
  scaleMs = 0;
  decodeMs = 0;
  running = 0;
  disposals = 0;
  matrix: Float32Array | null = null;
  #nextId = 1;
  #stops = new Set<() => void>();

  generate(request: NativeRequest, onEvent: (event: NativeScaleEvent | NativeEndEvent) => void): NativeGeneration {
    const id = this.#nextId++;
    this.requests.push(request);
    this.running++;
    let depths = [...request.depths];
    let reason: NativeScaleEvent["reason"] = "plan";
    let ended = false;
    const end = (event: NativeEndEvent) => {
      if (ended) return;
      ended = true;
      this.running--;
      this.#stops.delete(stop);
      onEvent(event);
    };
    const stop = () =>
      void setImmediate(() => end({ ...END, code: "ABORTED", message: "the generation was cancelled" }));
    this.#stops.add(stop);
    const step = (index: number) => {
      if (ended) return;
      if (this.failure !== null && index === this.failAt) return end({ ...END, message: "it failed", ...this.failure });
      if (index === ARCHITECTURE.numScales) return end(END);
      onEvent(this.#scale(request, index, depths[index]!, reason));
      this.#later(() => step(index + 1));
    };
    this.#later(() => step(0));
    return {
      id,
      setDepth: (depth) => {
        this.log.push(`setDepth ${depth}`);
        if (this.depthFailure !== null) {
          const failure = this.depthFailure;
          this.depthFailure = null;
          throw Object.assign(new Error("no room for the raise"), failure);
        }
        depths = depths.map(() => depth);
        reason = "set";
      },
      cancel: () => {
        this.log.push("cancel");
        stop();
      },
      decode: (out) =>
        this.#job(async () => {
          this.log.push("decode");
          await new Promise((resolve) => setTimeout(resolve, this.decodeMs));
          const size = out.length / request.labels.length;
          request.labels.forEach((label, image) => {
            out.fill(label, image * size, (image + 1) * size);
          });
        }),
    };
  }

  decode(tokens: Int32Array, out: Uint8ClampedArray | Float32Array): NativeJob {
    const size = out.length / (tokens.length / ARCHITECTURE.numTokens);
    for (let i = 0; i * size < out.length; i++) out.fill(tokens[i * ARCHITECTURE.numTokens]!, i * size, (i + 1) * size);
    return this.#job();
  }

  encode(pixels: Float32Array, tokens: Int32Array): NativeJob {
    tokens.fill(Math.round((pixels[0]! + 1) * 2));
    return this.#job();
  }

  /** Channel e of every position is the first token plus e; enough for a fit to be possible. */
  featureMap(tokens: Int32Array, fHats: Float32Array): NativeJob {
    const { codeDim, numTokens } = ARCHITECTURE;
    const size = codeDim * 16;
    fHats.forEach((_, i) => {
      fHats[i] = tokens[Math.floor(i / size) * numTokens]! + Math.floor((i % size) / 16);
    });
    return this.#job();
  }

  encodeTrace(): NativeJob {
    throw new Error("no test of the facade traces an encoding");
  }

  #job(work: () => Promise<void> = async () => undefined): NativeJob {
    return { done: work(), cancel: () => void this.log.push("cancel job") };
  }

  setPreviewMatrix(matrix: Float32Array): void {
    this.matrix = matrix;
  }

  stats(): NativeStats {
    const pool = { capacityBytes: 100, usedBytes: 0, peakBytes: 0, reservedBytes: 0, generations: [] };
    const scaleTimes = Float64Array.of(0, 8, 1, 0.5, 1, 8, 4, 0.75);
    const counts = { running: this.running, waiting: 0, steps: 4, tokens: 30, jobs: 0, jobParts: 0 };
    return { pool, ...counts, busyMs: 10, maxBatchRows: 2, scaleTimes };
  }

  peakBytes(depths: Int32Array, sequences: number): number {
    return depths.reduce((total, depth) => total + depth, 0) * sequences;
  }

  async dispose(): Promise<void> {
    this.disposals++;
    for (const stop of this.#stops) stop();
  }

  #later(task: () => void): void {
    if (this.scaleMs > 0) setTimeout(task, this.scaleMs);
    else setImmediate(task);
  }

  #scale(request: NativeRequest, index: number, depth: number, reason: NativeScaleEvent["reason"]): NativeScaleEvent {
    const side = ARCHITECTURE.sides[index]!;
    const area = side * side;
    const tokens = Int32Array.from({ length: request.labels.length * area }, (_, i) => {
      return (request.labels[Math.floor(i / area)]! + index + (i % area)) % ARCHITECTURE.codebookSize;
    });
    const preview =
      request.preview === "none" ? null : new Uint8ClampedArray(request.labels.length * 16 * 3).fill(index);
    const none = { losses: null, logits: null, fHat: null, nextInput: null, hidden: null };
    return {
      type: "scale",
      index,
      side,
      depth,
      reason,
      elapsedMs: index,
      scaleMs: 1,
      tokens,
      preview,
      previewSide: 4,
      ...none,
    };
  }
}

/** A model over a fake engine. */
export function fakeModel(parts: Partial<ConstructorParameters<typeof Model>[0]> = {}): {
  model: Model;
  engine: FakeEngine;
} {
  const engine = new FakeEngine();
  const model = new Model({
    native: engine,
    architecture: ARCHITECTURE,
    classNames: ["zero", "one", "two, deux", "three", "four", "five", "six, deux", "seven", "eight", "nine"],
    device: "cpu",
    deviceReason: "asked for",
    threads: 1,
    strategy: "even",
    bridge: 0,
    trainedDepths: [8],
    recommended: {},
    previewMatrix: null,
    ...parts,
  });
  return { model, engine };
}
