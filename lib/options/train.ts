/** Options of trainSupernet, and of `supernet.json`: type, range, names. The only place that reads the raw object. */

import { availableParallelism } from "node:os";
import { CLASS_RULES, type ClassRule } from "../labels/index.js";
import type { DType } from "../native/contract.js";
import type { TrainEvent } from "../train/events.js";
import type { InitialModel, LearningRate, OptimizerOptions, Phases, Ratio, TrainBase } from "../train/recipe.js";
import type { Strategy } from "../values/architecture.js";
import type { TokenSource } from "../values/token-source.js";
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkSignal,
  checkString,
  fail,
  optional,
} from "./check.js";

export interface TrainOptions {
  base: TrainBase;
  /** Folder of token shards (`nextscale tokenize`), or an open token set. */
  tokens: string | TokenSource;
  /** Tokens that are never trained on, for the evaluations. */
  heldout?: string | TokenSource;
  /** How the classes of the tokens find those of the base. Default `"auto"`: by name, else by number, else by place. */
  classesBy?: ClassRule;
  /** Folder of the run: options, metrics, checkpoints, the exported model, the report. */
  output: string;

  /** Depths that the supernet shall work at. Default: the powers of two below the full depth; none when `ratio` is 0. */
  depths?: number[];
  /** Leading scales that always run at full depth. Default: the base's, else 0. */
  bridge?: number;
  /** Choice of a subnet's blocks. Default: the base's, else `"even"`. */
  strategy?: Strategy;
  /** In epochs. Default: joint 5, transition 15, subnet 10. */
  phases?: Partial<Phases>;
  /** Share of subnet steps; one number holds for all phases, 0 trains the full network only. Default 0.2 rising to 1. */
  ratio?: number | Partial<Ratio>;
  /** Length of the run; the phases become shares of it. Default: the sum of the phases. */
  epochs?: number;
  /** Length of the run in optimizer steps, instead of epochs: for comparisons. */
  steps?: number;

  /** Of everything that is drawn: order of the images, depths, dropped labels, initial weights. Default 0. */
  seed?: number;
  /** Images of one optimizer step. Default 32, or all there are. */
  batch?: number;
  /** Images of one pass; gradients are accumulated. Default: as many as `memory` allows. */
  microBatch?: number;
  /** Keep only each block's input and run it again on the way back. Default: when memory asks for it. */
  checkpointing?: boolean;
  /** Bytes that the training may take. Default: 80 % of the free memory. */
  memory?: number;
  /** Default: all cores. */
  threads?: number;
  /** Attention heads of a base without L2-norm attention that breaks the reference's rule. */
  heads?: number;

  /** Peak, or all of it. Default: 1e-4 · batch / 256, 2 % warm-up, then linearly down to a tenth. */
  learningRate?: number | Partial<LearningRate>;
  optimizer?: OptimizerOptions;
  /** Share of labels replaced by "unconditional", so that guidance works. Default 0.1. */
  labelDropout?: number;
  /** Default 0. */
  labelSmoothing?: number;
  /** Decay of an exponential average of the weights, which is then what is exported; 0 = none. Default 0. */
  average?: number;

  evaluation?: {
    /** Default: once per epoch. */
    everySteps?: number;
    /** Held-out images used. Default 256. */
    images?: number;
  };
  save?: {
    /** Default: by the clock only. */
    everySteps?: number;
    /** Default 10. */
    everyMinutes?: number;
    /** Checkpoints kept. Default 2. */
    keep?: number;
  };
  /** Images of each depth in the report; 0 = no sample sheets. Default: one per class, at most 32. */
  samples?: number;
  /** Name of the exported model. */
  name?: string;
  /** Number format of the exported matrices. Default `"f32"`. */
  dtype?: DType;

  /** Continue the run in `output`, or begin it when nothing has been saved yet. Default false. */
  resume?: boolean;
  /** Path of a native binary to load instead of the packaged one. */
  nativeBinding?: string;
  /** Told what happens; what it throws ends the run as if the signal had been aborted. */
  onEvent?: (event: TrainEvent) => void;
  /** Finishes the step at hand, saves, and rejects with an AbortError. */
  signal?: AbortSignal;
}

const KEYS = [
  "base",
  "tokens",
  "heldout",
  "output",
  "classesBy",
  "depths",
  "bridge",
  "strategy",
  "phases",
  "ratio",
  "epochs",
  "steps",
  "seed",
  "batch",
  "microBatch",
  "checkpointing",
  "memory",
  "threads",
  "heads",
  "learningRate",
  "optimizer",
  "labelDropout",
  "labelSmoothing",
  "average",
  "evaluation",
  "save",
  "samples",
  "name",
  "dtype",
  "resume",
  "nativeBinding",
  "onEvent",
  "signal",
] as const satisfies readonly (keyof TrainOptions)[];

const MANY = Number.MAX_SAFE_INTEGER;

/** Defaults filled in, except for those that depend on the base, the tokens or the machine. */
export interface ResolvedTrainOptions {
  base: TrainBase;
  tokens: string | TokenSource;
  heldout: string | TokenSource | undefined;
  output: string;
  classesBy: ClassRule;
  depths: number[] | undefined;
  bridge: number | undefined;
  strategy: Strategy | undefined;
  phases: Phases;
  ratio: Ratio;
  epochs: number | undefined;
  steps: number | undefined;
  seed: number;
  batch: number | undefined;
  microBatch: number | undefined;
  checkpointing: boolean | undefined;
  memory: number | undefined;
  threads: number;
  heads: number | undefined;
  learningRate: Omit<LearningRate, "peak"> & { peak: number | undefined };
  optimizer: Required<OptimizerOptions>;
  labelDropout: number;
  labelSmoothing: number;
  average: number;
  evaluation: { everySteps: number | undefined; images: number };
  save: { everySteps: number | undefined; everyMinutes: number; keep: number };
  samples: number | undefined;
  name: string | undefined;
  dtype: DType;
  resume: boolean;
  nativeBinding: string | undefined;
  onEvent: ((event: TrainEvent) => void) | undefined;
  signal: AbortSignal | undefined;
}

/** @throws InvalidOptionError */
export function resolveTrainOptions(raw: unknown): ResolvedTrainOptions {
  if (raw === undefined) fail("options", raw, "{ base, tokens, output }");
  const options = checkObject("options", raw, KEYS);
  const ratio = checkRatio(options.ratio ?? {});
  if (options.epochs !== undefined && options.steps !== undefined) {
    fail("steps", options.steps, "either epochs or steps, not both");
  }
  return {
    base: checkBase(options.base),
    tokens: checkTokens("tokens", options.tokens),
    heldout: optional(options.heldout, (value) => checkTokens("heldout", value)),
    output: checkString("output", options.output),
    classesBy: checkOneOf("classesBy", options.classesBy ?? "auto", CLASS_RULES),
    depths: optional(options.depths, (value) => checkDepths(value, ratio)),
    bridge: optional(options.bridge, (value) => checkInteger("bridge", value, 0, 1024)),
    strategy: optional(options.strategy, (value) => checkOneOf("strategy", value, ["even", "nested"])),
    phases: checkPhases(options.phases),
    ratio,
    epochs: optional(options.epochs, (value) => checkPositive("epochs", value)),
    steps: optional(options.steps, (value) => checkInteger("steps", value, 1, MANY)),
    seed: checkInteger("seed", options.seed ?? 0, 0, MANY),
    batch: optional(options.batch, (value) => checkInteger("batch", value, 1, 1_048_576)),
    microBatch: optional(options.microBatch, (value) => checkInteger("microBatch", value, 1, 1_048_576)),
    checkpointing: optional(options.checkpointing, (value) => checkBoolean("checkpointing", value)),
    memory: optional(options.memory, (value) => checkInteger("memory", value, 1, MANY)),
    threads: checkInteger("threads", options.threads ?? availableParallelism(), 1, 1024),
    heads: optional(options.heads, (value) => checkInteger("heads", value, 1, 1024)),
    learningRate: checkLearningRate(options.learningRate ?? {}),
    optimizer: checkOptimizer(options.optimizer),
    labelDropout: checkNumber("labelDropout", options.labelDropout ?? 0.1, 0, 1),
    labelSmoothing: checkShare("labelSmoothing", options.labelSmoothing ?? 0),
    average: checkShare("average", options.average ?? 0),
    evaluation: checkEvaluation(options.evaluation),
    save: checkSave(options.save),
    samples: optional(options.samples, (value) => checkInteger("samples", value, 0, 1024)),
    name: optional(options.name, (value) => checkString("name", value)),
    dtype: checkOneOf("dtype", options.dtype ?? "f32", ["f32", "f16", "bf16"]),
    resume: checkBoolean("resume", options.resume ?? false),
    nativeBinding: optional(options.nativeBinding, (value) => checkString("nativeBinding", value)),
    onEvent: optional(options.onEvent, (value) => checkFunction<(event: TrainEvent) => void>("onEvent", value)),
    signal: optional(options.signal, (value) => checkSignal("signal", value)),
  };
}

const BASE_FORMS = "a path, { var, tokenizer } or { tokenizer, depth }";

function checkBase(value: unknown): TrainBase {
  if (typeof value === "string") return checkString("base", value);
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail("base", value, BASE_FORMS);
  if ("var" in value) {
    const pair = checkObject("base", value, ["var", "tokenizer"]);
    return { var: checkString("base.var", pair.var), tokenizer: checkString("base.tokenizer", pair.tokenizer) };
  }
  const keys = ["tokenizer", "depth", "width", "heads", "mlpWidth", "sharedAda", "l2Norm"] as const;
  const shape = checkObject("base", value, keys satisfies readonly (keyof InitialModel)[]);
  if (shape.depth === undefined) fail("base.depth", undefined, `the number of blocks (base is ${BASE_FORMS})`);
  const count = (key: "width" | "heads" | "mlpWidth", most: number) =>
    shape[key] === undefined ? {} : { [key]: checkInteger(`base.${key}`, shape[key], 1, most) };
  const flag = (key: "sharedAda" | "l2Norm") =>
    shape[key] === undefined ? {} : { [key]: checkBoolean(`base.${key}`, shape[key]) };
  return {
    tokenizer: checkString("base.tokenizer", shape.tokenizer),
    depth: checkInteger("base.depth", shape.depth, 1, 1024),
    ...count("width", 65_536),
    ...count("heads", 1024),
    ...count("mlpWidth", 262_144),
    ...flag("sharedAda"),
    ...flag("l2Norm"),
  };
}

function checkTokens(option: string, value: unknown): string | TokenSource {
  if (typeof value === "string") return checkString(option, value);
  const source = value as TokenSource | null;
  const ok = typeof source === "object" && source !== null && typeof source.read === "function" && "length" in source;
  if (!ok) fail(option, value, "a folder of token shards, or an open token set");
  return source;
}

/** Ascending, without repeats. An empty list is for runs that never train a subnet. */
function checkDepths(value: unknown, { start, end }: Ratio): number[] {
  if (!Array.isArray(value)) fail("depths", value, "a list of depths such as [2, 4, 8]");
  const depths = value.map((depth, index) => checkInteger(`depths[${index}]`, depth, 1, 1024));
  if (depths.length === 0 && (start > 0 || end > 0)) fail("depths", value, "at least one depth (or ratio 0)");
  return [...new Set(depths)].sort((a, b) => a - b);
}

function checkPhases(value: unknown): Phases {
  const phases = checkObject("phases", value, ["joint", "transition", "subnet"]);
  const given = Object.keys(phases).length > 0; // one that is given alone stands for all
  const read = (key: keyof Phases, whenAbsent: number) =>
    checkNumber(`phases.${key}`, phases[key] ?? (given ? 0 : whenAbsent), 0, 1e6);
  const resolved = { joint: read("joint", 5), transition: read("transition", 15), subnet: read("subnet", 10) };
  if (resolved.joint + resolved.transition + resolved.subnet === 0) {
    fail("phases", "three phases of length 0", "at least one that is longer than 0");
  }
  return resolved;
}

function checkRatio(value: unknown): Ratio {
  if (typeof value === "number") {
    const ratio = checkNumber("ratio", value, 0, 1);
    return { start: ratio, end: ratio };
  }
  if (typeof value !== "object") fail("ratio", value, "a number in 0..1 or { start, end }");
  const ratio = checkObject("ratio", value, ["start", "end"]);
  return {
    start: checkNumber("ratio.start", ratio.start ?? 0.2, 0, 1),
    end: checkNumber("ratio.end", ratio.end ?? 1, 0, 1),
  };
}

function checkLearningRate(value: unknown): ResolvedTrainOptions["learningRate"] {
  if (typeof value !== "number" && typeof value !== "object") fail("learningRate", value, "a number or { peak, ... }");
  const alone = typeof value === "number";
  const keys = ["peak", "schedule", "warmup", "start", "end"] as const;
  const rate = alone ? { peak: value } : checkObject("learningRate", value, keys);
  const { peak, schedule, warmup, start, end } = rate as Record<(typeof keys)[number], unknown>;
  return {
    peak: optional(peak, (rate) => checkPositive(alone ? "learningRate" : "learningRate.peak", rate, 1000)),
    schedule: checkOneOf("learningRate.schedule", schedule ?? "linear", ["cosine", "linear", "constant"]),
    warmup: checkNumber("learningRate.warmup", warmup ?? 0.02, 0, 1),
    start: checkNumber("learningRate.start", start ?? 0.005, 0, 1),
    end: checkNumber("learningRate.end", end ?? 0.1, 0, 1),
  };
}

function checkOptimizer(value: unknown): Required<OptimizerOptions> {
  const keys = ["beta1", "beta2", "epsilon", "weightDecay", "decayAll", "clip"] as const;
  const options = checkObject("optimizer", value, keys);
  return {
    beta1: checkShare("optimizer.beta1", options.beta1 ?? 0.9),
    beta2: checkShare("optimizer.beta2", options.beta2 ?? 0.95),
    epsilon: checkPositive("optimizer.epsilon", options.epsilon ?? 1e-8, 1),
    weightDecay: checkNumber("optimizer.weightDecay", options.weightDecay ?? 0.05, 0, 1000),
    decayAll: checkBoolean("optimizer.decayAll", options.decayAll ?? false),
    clip: checkNumber("optimizer.clip", options.clip ?? 2, 0, 1e6),
  };
}

function checkEvaluation(value: unknown): ResolvedTrainOptions["evaluation"] {
  const options = checkObject("evaluation", value, ["everySteps", "images"]);
  return {
    everySteps: optional(options.everySteps, (steps) => checkInteger("evaluation.everySteps", steps, 1, MANY)),
    images: checkInteger("evaluation.images", options.images ?? 256, 1, MANY),
  };
}

function checkSave(value: unknown): ResolvedTrainOptions["save"] {
  const options = checkObject("save", value, ["everySteps", "everyMinutes", "keep"]);
  return {
    everySteps: optional(options.everySteps, (steps) => checkInteger("save.everySteps", steps, 1, MANY)),
    everyMinutes: checkPositive("save.everyMinutes", options.everyMinutes ?? 10, 1e6),
    keep: checkInteger("save.keep", options.keep ?? 2, 1, 1000),
  };
}

function checkPositive(option: string, value: unknown, most = 1e9): number {
  if (typeof value !== "number" || !(value > 0) || value > most)
    fail(option, value, `a number above 0, at most ${most}`);
  return value;
}

/** 0 <= value < 1 */
function checkShare(option: string, value: unknown): number {
  if (typeof value !== "number" || !(value >= 0 && value < 1)) fail(option, value, "a number of 0 or more, below 1");
  return value;
}
