/** Options, base and tokens -> everything that decides a run, as plain data: what run.json holds and what is hashed. */

import { createHash } from "node:crypto";
import { InvalidOptionError } from "../errors.js";
import { type ClassMap, describeClassMap, isIdentity, mapClasses, mappedNames } from "../labels/index.js";
import type { NativeConfig } from "../native/contract.js";
import { defaultDepths, minDepth } from "../options/depth.js";
import type { Phases } from "../options/recipe.js";
import type { ResolvedTrainOptions } from "../options/train.js";
import type { TokenSource } from "../values/token-source.js";
import { type Base, weightsHash } from "./base.js";
import type { Recipe, TrainPlan } from "./recipe.js";
import { numEpochs, Schedule } from "./schedule.js";
import { contentHash, emptyClasses } from "./tokens.js";

const DEFAULT_BATCH = 32;

export function batchOf(options: ResolvedTrainOptions, tokens: TokenSource): number {
  return options.batch ?? Math.min(DEFAULT_BATCH, tokens.length);
}

/** What must be known to plan: the set with its own labels, and which of the base's classes they are. */
export interface PlanParts {
  base: Base;
  tokens: TokenSource;
  classes: ClassMap;
  microBatch: number;
  checkpointing: boolean;
}

/** @throws InvalidOptionError */
export async function makePlan(
  options: ResolvedTrainOptions,
  { base, tokens, classes, microBatch, checkpointing }: PlanParts,
): Promise<TrainPlan> {
  const { config } = base;
  const batch = batchOf(options, tokens);
  const stepsPerEpoch = tokens.length / batch;
  const epochs = options.epochs ?? numEpochs(options.phases);
  const totalSteps = options.steps ?? Math.max(1, Math.ceil(epochs * stepsPerEpoch));
  const subnets = subnetsOf(options, config);
  const recipe: Recipe = {
    config,
    tokenizer: base.fingerprint,
    base: await weightsHash(base, options.signal),
    initial: base.initial,
    data: await contentHash(tokens),
    ...(!isIdentity(classes) && { classes: classes.classes }),
    images: tokens.length,
    subnets,
    bridge: bridgeOf(options, base),
    strategy: options.strategy ?? base.notes.strategy ?? "even",
    phases: stretch(options.phases, options.steps === undefined ? epochs : totalSteps / stepsPerEpoch),
    ratio: options.ratio,
    totalSteps,
    seed: options.seed,
    batch,
    microBatch,
    checkpointing,
    learningRate: { ...options.learningRate, peak: options.learningRate.peak ?? (1e-4 * batch) / 256 },
    optimizer: options.optimizer,
    labelDropout: options.labelDropout,
    labelSmoothing: options.labelSmoothing,
    averageDecay: options.averageDecay,
  };
  return {
    recipe,
    hash: hashOf(recipe),
    stepsPerEpoch,
    depths: [...subnets, config.depth],
    labels: namesOf(base, tokens, classes),
    classes,
    evaluation: {
      everySteps: options.evaluation.everySteps ?? Math.max(1, Math.ceil(stepsPerEpoch)),
      images: options.evaluation.images,
    },
    warnings: [...base.warnings, ...dataWarnings(base, tokens, classes)],
  };
}

export function scheduleOf({ recipe }: Pick<TrainPlan, "recipe">): Schedule {
  return new Schedule({ ...recipe, fullDepth: recipe.config.depth, numScales: recipe.config.sides.length });
}

function hashOf(recipe: Recipe): string {
  return createHash("sha256").update(JSON.stringify(recipe)).digest("hex");
}

/** Names of the settings in which two recipes differ, for the refusal to resume. */
export function differences(a: object, b: object): string[] {
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].filter((key) => JSON.stringify(left[key]) !== JSON.stringify(right[key]));
}

/** The same shares of another length, in epochs. */
function stretch({ joint, transition, subnet }: Phases, epochs: number): Phases {
  const factor = epochs / (joint + transition + subnet);
  return { joint: joint * factor, transition: transition * factor, subnet: subnet * factor };
}

function subnetsOf({ depths, ratio }: ResolvedTrainOptions, { depth: fullDepth }: NativeConfig): number[] {
  if (ratio.start === 0 && ratio.end === 0 && depths === undefined) return [];
  const wanted = depths ?? defaultDepths(fullDepth);
  wanted.forEach((depth, index) => {
    if (depth >= minDepth(fullDepth) && depth <= fullDepth) return;
    throw new InvalidOptionError(
      `depths[${index}]`,
      String(depth),
      `an integer in ${minDepth(fullDepth)}..${fullDepth}`,
    );
  });
  const subnets = wanted.filter((depth) => depth < fullDepth);
  if (subnets.length === 0 && ratio.end + ratio.start > 0) {
    const found = `[${wanted.join(", ")}]`;
    throw new InvalidOptionError("depths", found, `a depth below the full ${fullDepth} (or ratio 0)`);
  }
  return subnets;
}

function bridgeOf({ bridge, ratio }: ResolvedTrainOptions, { notes, config }: Base): number {
  const numScales = config.sides.length;
  const chosen = bridge ?? notes.bridge ?? 0;
  const trainsSubnets = ratio.start > 0 || ratio.end > 0;
  if (chosen > numScales || (trainsSubnets && chosen === numScales)) {
    const expected = `an integer in 0..${numScales - 1}: the model has ${numScales} scales, one at least is flexible`;
    throw new InvalidOptionError("bridge", String(chosen), expected);
  }
  return chosen;
}

const named = ({ classes, folder }: TokenSource, option: string) => ({ classes, folder: folder ?? option });

/**
 * Which classes of the base those of the tokens are, and those of the held-out ones: these may also know the names that
 * the training brings.
 *
 * @throws InvalidTokensError
 */
export function classesOf(
  { classesBy }: Pick<ResolvedTrainOptions, "classesBy">,
  base: Base,
  tokens: TokenSource,
  heldout: TokenSource | null,
): { tokens: ClassMap; heldout: ClassMap | null } {
  const known = { numClasses: base.config.numClasses, classNames: base.notes.labels ?? [] };
  const map = mapClasses(named(tokens, "tokens"), known, classesBy);
  if (heldout === null) return { tokens: map, heldout: null };
  if (heldout.classes.join("\0") === tokens.classes.join("\0")) return { tokens: map, heldout: map };
  const classNames = Array.from({ length: known.numClasses }, (_, index) => {
    const from = map.classes.indexOf(index);
    return map.rule !== "place" || from < 0
      ? (known.classNames[index] ?? tokens.classes[from] ?? "")
      : tokens.classes[from]!;
  });
  const rule = classesBy === "place" ? "auto" : classesBy; // names that the tokens have brought say more than a place
  return { tokens: map, heldout: mapClasses(named(heldout, "heldout"), { ...known, classNames }, rule) };
}

/** Those of the base, and of the tokens where they replace them or the base has none. */
function namesOf({ notes, config }: Base, tokens: TokenSource, map: ClassMap): string[] | undefined {
  return mappedNames(map, named(tokens, "tokens"), { numClasses: config.numClasses, classNames: notes.labels ?? [] });
}

function dataWarnings({ notes, config, initial }: Base, tokens: TokenSource, map: ClassMap): string[] {
  const warnings: string[] = [];
  const empty = emptyClasses(tokens);
  if (empty.length > 0) {
    const names = `${empty.slice(0, 5).join(", ")}${empty.length > 5 ? ", ..." : ""}`;
    warnings.push(`${empty.length} of ${tokens.classes.length} classes have no images: ${names}`);
  }
  if (!initial && tokens.classes.length < config.numClasses) {
    warnings.push(
      `the base has ${config.numClasses} classes, the tokens ${tokens.classes.length}: the rest is not trained`,
    );
  }
  const told = describeClassMap(map, named(tokens, "tokens"), {
    numClasses: config.numClasses,
    classNames: notes.labels ?? [],
  });
  if (told !== null) warnings.push(told);
  return warnings;
}
