/** An opened model: describe, generate, encode, decode, score, dispose. */

import { markUncloneable } from "../base/uncloneable.js";
import { CallSite, InvalidOptionError } from "../errors.js";
import type { Image } from "../image/image.js";
import type { ImageLike } from "../image/planes.js";
import { type Conditions, repeated } from "../labels/index.js";
import type { NativeModel, NativeRequest, NativeStats } from "../native/contract.js";
import { checkDepth, type DepthOption, type DepthPlan, resolveDepth } from "../options/depth.js";
import { type EditOptions, resolveEditOptions } from "../options/edit.js";
import {
  type GenerateContext,
  type GenerateOptions,
  type ResolvedGenerateOptions,
  resolveGenerateOptions,
  resolveScoreOptions,
  type ScoreOptions,
} from "../options/generate.js";
import { type Architecture, type Strategy, toTokenizerArchitecture } from "../values/architecture.js";
import { checkedTokens, type TokenMaps } from "../values/tokens.js";
import { EditGeneration } from "./edit-generation.js";
import type { ModelEvent } from "./events.js";
import { Generation, type GenerationParts } from "./generation.js";
import { internal, type Overrides } from "./internal.js";
import { awaitJob } from "./job.js";
import { Lifecycle } from "./lifecycle.js";
import { Observer } from "./observer.js";
import { fitPreview } from "./preview.js";
import { imagesPerRun, type Score, scoreTokens } from "./score.js";
import type { ModelStats, PoolStats } from "./stats.js";
import { type JobOptions, Tokenizer } from "./tokenizer.js";

/** What loadModel knows when the core has opened the weights. */
export interface ModelParts {
  native: NativeModel;
  architecture: Architecture;
  classNames: readonly string[];
  device: string;
  deviceReason: string;
  threads: number;
  strategy: Strategy;
  bridge: number;
  trainedDepths: readonly number[];
  recommended: GenerateContext["recommended"];
  tokenizerFingerprint?: string;
  warnings?: readonly string[];
  /** `[3, E+1]` when the checkpoint has one. */
  previewMatrix: Float32Array | null;
  onEvent?: ((event: ModelEvent) => void) | undefined;
}

/** Made by {@link loadModel}. Serves any number of generations at once. */
export class Model {
  /** The checkpoint's shape. */
  readonly architecture: Architecture;
  /** Class names by number; empty when the checkpoint has none. */
  readonly classNames: readonly string[];
  /** The device really in use. */
  readonly device: string;
  /** Why this device. */
  readonly deviceReason: string;
  /** Worker threads of this model. */
  readonly threads: number;
  /** How the blocks of a subnet are chosen. */
  readonly strategy: Strategy;
  /** Leading scales that the checkpoint was trained to run at full depth; 0 when it names none. */
  readonly bridge: number;
  /** Depths that the checkpoint was trained for, ascending. Any depth of 2..D runs; others than these lose quality. */
  readonly depths: readonly number[];
  /**
   * Names the tokenizer: equal for models whose tokens mean the same, whatever file they come from. See
   * {@link TokenSet.fingerprint}.
   */
  readonly tokenizerFingerprint: string;
  /** What had to be assumed of the checkpoint: its number of heads, or which weights were taken of several. */
  readonly warnings: readonly string[];
  /** Pictures into tokens and back. It lives as long as the model. */
  readonly tokenizer: Tokenizer;

  readonly #native: NativeModel;
  readonly #lifecycle: Lifecycle;
  readonly #context: GenerateContext;
  readonly #observer: Observer;
  #preview: Promise<unknown> | null = null;
  #previewReady: boolean;

  /** @internal */
  constructor(parts: ModelParts) {
    const { architecture } = parts;
    this.architecture = architecture;
    this.classNames = parts.classNames;
    this.device = parts.device;
    this.deviceReason = parts.deviceReason;
    this.threads = parts.threads;
    this.strategy = parts.strategy;
    this.bridge = parts.bridge;
    this.depths = parts.trainedDepths;
    this.tokenizerFingerprint = parts.tokenizerFingerprint ?? "";
    this.warnings = parts.warnings ?? [];
    this.#native = parts.native;
    this.#observer = new Observer(parts.onEvent);
    markUncloneable(this);
    this.#lifecycle = new Lifecycle(() => this.#native.dispose());
    this.tokenizer = new Tokenizer({
      native: parts.native.tokenizer,
      architecture: toTokenizerArchitecture(architecture),
      fingerprint: this.tokenizerFingerprint,
      threads: parts.threads,
      lifecycle: this.#lifecycle,
    });
    const depthContext = {
      fullDepth: architecture.depth,
      numScales: architecture.numScales,
      bridge: parts.bridge,
      trainedDepths: parts.trainedDepths,
    };
    this.#context = {
      ...depthContext,
      numClasses: architecture.numClasses,
      codebookSize: architecture.codebookSize,
      classNames: parts.classNames,
      recommended: parts.recommended,
      defaultDepth: resolveDepth(undefined, depthContext),
    };
    this.#previewReady = parts.previewMatrix !== null;
    if (parts.previewMatrix !== null) this.#native.setPreviewMatrix(parts.previewMatrix);
  }

  get disposed(): boolean {
    return this.#lifecycle.disposed;
  }

  /** The KV pool at this moment, exact to the byte. */
  get pool(): PoolStats {
    return this.#nativeStats().pool;
  }

  /**
   * Starts a generation and returns it at once: iterate it for scale events, await `images()` for the pictures.
   * Throws an InvalidOptionError for bad options; everything later rejects what you await.
   *
   * @example A picture of a class, by number or by name, into a file.
   * ```ts
   * const [image] = await model.generate({ labels: "seven" }).images();
   * await image.toFile("seven.png");
   * ```
   *
   * @example Several pictures at once. The same seed gives the same ones, on any machine and in any company.
   * ```ts
   * const images = await model.generate({ labels: [0, 1, 2, 3], seed: 42, guidance: 2, topP: 0.95 }).images();
   * await Image.grid(images).toFile("grid.webp");
   * ```
   *
   * @example Every scale as it comes, with a picture of what is there so far.
   * ```ts
   * for await (const scale of model.generate({ labels: 3, preview: "linear" })) {
   *   await scale.preview?.toFile(`scale-${scale.index}.png`);
   * }
   * ```
   *
   * @example The first three scales with all blocks, the others with four of them.
   * ```ts
   * const images = await model.generate({ labels: 3, depth: { bridge: 3, subnet: 4 } }).images();
   * ```
   *
   * @example Another depth from the next scale on, while the picture is being drawn. Leaving the loop early would
   *   cancel it.
   * ```ts
   * const generation = model.generate({ labels: 3 });
   * for await (const scale of generation) {
   *   if (scale.elapsedMs > 400) generation.setDepth(2);
   * }
   * const images = await generation.images();
   * ```
   *
   * @example A picture in about 400 milliseconds, and none at all when somebody has lost interest after two seconds.
   * ```ts
   * const signal = AbortSignal.timeout(2000);
   * const images = await model.generate({ labels: 3, depth: { deadlineMs: 400 }, signal }).images();
   * ```
   *
   * @example Not to wait in line: when the KV pool has no room, the error says with which plan there would be.
   * ```ts
   * try {
   *   await model.generate({ labels: Array(64).fill(3), wait: false }).images();
   * } catch (error) {
   *   if (!(error instanceof PoolExhaustedError)) throw error;
   *   console.log(`${error.neededBytes} bytes needed, ${error.availableBytes} free; would fit: ${error.deepestFit}`);
   * }
   * ```
   */
  generate(options?: GenerateOptions): Generation {
    const callSite = new CallSite(this.generate);
    this.#lifecycle.requireAlive();
    return this.#start(resolveGenerateOptions(options, this.#context), callSite, {});
  }

  /**
   * Draws part of a picture and keeps the rest: in-painting with a mask or a rectangle, out-painting with `expand`, a
   * variation of the whole with `strength`. Returns at once, as {@link generate} does, and everything that a generation
   * can do works: events, depth plans and `setDepth`, previews, cancelling. Throws an InvalidOptionError for bad
   * options; a picture or a mask that cannot be read or does not fit rejects what you await.
   *
   * The picture must be square, or `fit` says what becomes of another aspect. The first token is always the picture's,
   * because it stands for the whole; so a mask that draws everything is not quite what {@link generate} draws.
   *
   * Source: the reference's zero-shot editing notebook. It recommends large models (d36 at 512 pixels); what a small
   * one makes of a part of a picture it makes of whole ones.
   *
   * @example A part of a picture anew, four attempts, the best seam first.
   * ```ts
   * const edit = model.edit({ image: "three.png", mask: { x: 8, y: 16, width: 16, height: 16 }, label: 8, variants: 4, seed: 1 });
   * const images = await edit.images();
   * ```
   *
   * @example A variation that keeps the composition.
   * ```ts
   * const [variation] = await model.edit({ image: "three.png", label: 3, strength: 0.5, seed: 2 }).images();
   * ```
   */
  edit(options: EditOptions): EditGeneration {
    const callSite = new CallSite(this.edit);
    this.#lifecycle.requireAlive();
    const { sides, imageSide, depth: fullDepth } = this.architecture;
    const gridSide = sides.at(-1)!;
    const resolved = resolveEditOptions(options, this.#context, imageSide / gridSide);
    const { drawing, image, mask, strength, expand, fit, preserve, feather } = resolved;
    const { conditions, signal } = drawing;
    const layout = { side: imageSide, gridSide, fit, expand };
    const generation = new EditGeneration(
      this.#partsOf(drawing, callSite),
      {
        plan: { image, mask, strength, layout, preserve, feather, seed: drawing.seed, sides },
        encode: async (pixels) => {
          this.#lifecycle.requireAlive();
          const picture = { width: imageSide, height: imageSide, data: pixels };
          return (await this.encode(picture, { signal })).flat;
        },
        score: async (tokens) => {
          const plan = resolveDepth([...sides].fill(fullDepth), this.#context);
          return (await this.#scoreAll(tokens, conditions, plan, signal, callSite)).perToken;
        },
      },
      (given, onEvent) => this.#native.generate({ ...toRequest(drawing, {}), givenTokens: given }, onEvent),
    );
    this.#lifecycle.adopt(generation.child);
    return generation;
  }

  /** The plan of generations that start from now on without one of their own. */
  setDepth(depth: DepthOption): void {
    this.#lifecycle.requireAlive();
    this.#context.defaultDepth = resolveDepth(depth, this.#context);
  }

  /** Exact peak of the KV pool for a depth option: bytes for one image (two sequences unless guidance is 0). */
  peakBytes(depth: DepthOption, guided = true): number {
    this.#lifecycle.requireAlive();
    return this.#native.peakBytes(resolveDepth(depth, this.#context).depths, guided ? 2 : 1);
  }

  /**
   * How many images of a generation with these options the KV pool holds at once: what can be asked for in one call
   * without waiting, when nothing else runs. 0 when not even one fits.
   */
  imagesAtOnce(options?: Pick<GenerateOptions, "depth" | "guidance" | "keepDroppedCache">): number {
    this.#lifecycle.requireAlive();
    const { depth, guidance, keepDroppedCache } = options ?? {};
    const resolved = resolveGenerateOptions({ depth, guidance, keepDroppedCache }, this.#context);
    // Rows that are kept belong to blocks of the full network: its peak is the bound of every plan.
    const depths = resolved.keepDroppedCache
      ? resolved.plan.depths.map(() => this.architecture.depth)
      : resolved.plan.depths;
    const perImage = this.#native.peakBytes(depths, resolved.guidance.some((t) => t !== 0) ? 2 : 1);
    return Math.floor(this.pool.capacityBytes / perImage);
  }

  /** {@link Tokenizer.encode} of the model's tokenizer. */
  encode(images: ImageLike | ImageLike[], options?: JobOptions): Promise<TokenMaps> {
    return this.tokenizer.encode(images, options);
  }

  /** {@link Tokenizer.decode} of the model's tokenizer. */
  decode(tokens: TokenMaps | Int32Array, options?: JobOptions): Promise<Image[]> {
    return this.tokenizer.decode(tokens, options);
  }

  /**
   * How surprised the model is by token maps: teacher-forced cross entropy in nats, without guidance. Dropped blocks
   * keep their cache, as in the training of a supernet.
   */
  async score(options: ScoreOptions): Promise<Score> {
    this.#lifecycle.requireAlive();
    const { plan, conditions, tokens, signal } = resolveScoreOptions(options, this.#context);
    const flat = checkedTokens("tokens", tokens, this.architecture);
    const count = flat.length / this.architecture.numTokens;
    const all = conditions.count === 1 ? repeated(conditions, count) : conditions;
    if (all.count !== count) {
      throw new InvalidOptionError("labels", `${all.count} labels`, `1 or ${count}, one per image of tokens`);
    }
    return this.#scoreAll(flat, all, plan, signal, new CallSite(this.score));
  }

  #scoreAll(
    tokens: Int32Array,
    conditions: Conditions,
    plan: DepthPlan,
    signal: AbortSignal | undefined,
    callSite: CallSite,
  ): Promise<Score> {
    return scoreTokens({
      native: this.#native,
      lifecycle: this.#lifecycle,
      architecture: this.architecture,
      conditions,
      tokens,
      plan,
      batch: imagesPerRun(this.imagesAtOnce({ guidance: 0, keepDroppedCache: true })),
      signal,
      callSite,
      log: (requested) => this.#observer.log(requested),
    });
  }

  /** Touches every weight once, so that the first real generation is as fast as the next. */
  async warmup(signal?: AbortSignal): Promise<void> {
    const depth = this.architecture.depth;
    await this.generate({ guidance: 0, topK: 1, seed: 0, depth, signal }).images();
  }

  /** Queue, batches, pool and measured times at this moment. */
  stats(): ModelStats {
    const { scaleTimes, ...stats } = this.#nativeStats();
    const rows = Array.from({ length: scaleTimes.length / 4 }, (_, i) => scaleTimes.subarray(4 * i, 4 * i + 4));
    return {
      ...stats,
      tokensPerSecond: stats.busyMs > 0 ? (1000 * stats.tokens) / stats.busyMs : 0,
      scaleTimes: rows.map(([scale, depth, count, ms]) => ({ scale: scale!, depth: depth!, rows: count!, ms: ms! })),
    };
  }

  /** Aborts what runs, waits for it, frees the weights and the pool. Idempotent. */
  dispose(): Promise<void> {
    return this.#lifecycle.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** Fits the linear preview now instead of at its first use; returns the matrix `[3, E+1]`. */
  async fitPreview(): Promise<Float32Array> {
    this.#lifecycle.requireAlive();
    const matrix = await fitPreview({
      architecture: this.architecture,
      // Full depth, whatever the default: the fit must see the tokenizer's real inputs.
      sample: async (labels) => {
        const { depth } = this.architecture;
        return (await this.generate({ labels, seed: 0, guidance: 0, depth }).tokens()).flat;
      },
      featureMaps: (tokens) => {
        const { codeDim, sides } = this.architecture;
        return this.#ofTokens(tokens, codeDim * sides.at(-1)! ** 2, "featureMap");
      },
      pictures: (tokens) => this.#ofTokens(tokens, 3 * this.architecture.imageSide ** 2, "decode"),
    });
    this.#lifecycle.requireAlive();
    this.#native.setPreviewMatrix(matrix);
    this.#previewReady = true;
    return matrix;
  }

  /** @internal For tests: the engine, and generation with fields that no option sets. */
  get [internal]() {
    return {
      native: this.#native,
      generate: (options: GenerateOptions, overrides: Overrides) => {
        const callSite = new CallSite(this.generate);
        return this.#start(resolveGenerateOptions(options, this.#context), callSite, overrides);
      },
    };
  }

  #start(options: ResolvedGenerateOptions, callSite: CallSite, overrides: Overrides): Generation {
    const request = toRequest(options, overrides);
    const generation = new Generation({
      ...this.#partsOf(options, callSite),
      start: (onEvent) => this.#native.generate(request, onEvent),
    });
    this.#lifecycle.adopt(generation.child);
    return generation;
  }

  /** What every generation is given. */
  #partsOf(options: ResolvedGenerateOptions, callSite: CallSite): Omit<GenerationParts, "start"> {
    const { architecture } = this;
    return {
      sides: architecture.sides,
      imageSide: architecture.imageSide,
      count: options.conditions.count,
      seed: options.seed,
      signal: options.signal,
      ready: options.preview === "linear" && !this.#previewReady ? this.#fitOnce() : null,
      checkDepth: (depth) => checkDepth("depth", depth, architecture.depth),
      requireAlive: () => this.#lifecycle.requireAlive(),
      callSite,
      log: this.#observer.log(options),
    };
  }

  #fitOnce(): Promise<unknown> {
    this.#preview ??= this.fitPreview().catch((error) => {
      this.#preview = null; // the next one may try again
      throw error;
    });
    return this.#preview;
  }

  /** What the tokenizer makes of token maps, `size` numbers for each. */
  async #ofTokens(tokens: Int32Array, size: number, what: "featureMap" | "decode"): Promise<Float32Array> {
    this.#lifecycle.requireAlive();
    const out = new Float32Array((tokens.length / this.architecture.numTokens) * size);
    await awaitJob(this.#native.tokenizer[what](tokens, out), this.#lifecycle, undefined);
    return out;
  }

  #nativeStats(): NativeStats {
    this.#lifecycle.requireAlive();
    return this.#native.stats();
  }
}

/** Options that the core knows go to it under their names; it reads no others. */
function toRequest(options: ResolvedGenerateOptions, overrides: Overrides): NativeRequest {
  const { plan, conditions } = options;
  return {
    givenTokens: overrides.givenTokens ?? null,
    losses: false,
    capture: overrides.capture ?? false,
    ...plan,
    ...conditions,
    ...options,
    labels: conditions.labels,
    seed: BigInt(options.seed),
  };
}
