/** trainSupernet: options -> base, tokens, plan -> trainer -> run -> model and report. */

import { requireTokens } from "../data/fit.js";
import { AbortError, InternalError, InvalidOptionError, wrapNative } from "../errors.js";
import type { Files } from "../files/atomic-file.js";
import { loadBinding } from "../native/binding.js";
import type { NativeAddon, NativeTrainer } from "../native/contract.js";
import { machineMemory } from "../native/machine.js";
import { type ResolvedTrainOptions, resolveTrainOptions, type TrainOptions } from "../options/train.js";
import type { TokenSource } from "../values/token-source.js";
import { type Base, openBase } from "./base.js";
import { type OpenedCheckpoint, restore } from "./checkpoint-file.js";
import type { EvaluationMetrics, MemoryFigures, TrainEvent } from "./events.js";
import { exportCheckpoint } from "./export.js";
import { type MemoryPlan, planMemory } from "./memory.js";
import { linesUntil, MetricsFile, readMetrics } from "./metrics.js";
import { batchOf, classesOf, differences, makePlan } from "./plan.js";
import type { TrainPlan } from "./recipe.js";
import { machineOf, recordOptions } from "./record.js";
import { writeReport } from "./report.js";
import { evaluationIsDue, Run } from "./run.js";
import { bindingRecord, RunFolder, type RunRecord } from "./run-folder.js";
import { openTokens, relabelled } from "./tokens.js";

export interface TrainResult {
  /** Folder of the run. */
  output: string;
  /** The exported model. */
  model: string;
  report: string;
  /** Updates done, those before a resumption included. */
  steps: number;
  /** The last evaluation, one entry per depth; empty without held-out tokens. */
  evaluation: EvaluationMetrics[];
}

/** What a run would be; see {@link planTraining}. */
export interface PlannedTraining {
  plan: TrainPlan;
  memory: MemoryFigures;
}

/** What tests replace. */
export interface Replacements {
  addon?: Pick<NativeAddon, "openTrainer" | "trainerBytes" | "version">;
  files?: Files;
}

/**
 * Trains a network that works at several depths, and writes it as an ordinary model with a report.
 *
 * @throws InvalidOptionError, InvalidTokensError, InvalidCheckpointError, UnsafeCheckpointError, IoError,
 *   OutOfMemoryError, TrainingDivergedError (the last good checkpoint is kept), AbortError (the step at hand is saved)
 */
export function trainSupernet(options: TrainOptions): Promise<TrainResult> {
  return train(options);
}

/** Everything that {@link trainSupernet} decides before it takes memory. Nothing is written. */
export async function planTraining(raw: TrainOptions, replacements: Replacements = {}): Promise<PlannedTraining> {
  const options = resolveTrainOptions(raw);
  const addon = replacements.addon ?? loadBinding(options.nativeBinding);
  const { plan, memory } = await prepare(options, addon, replacements);
  return { plan, memory };
}

/** @internal */
export async function train(raw: TrainOptions, replacements: Replacements = {}): Promise<TrainResult> {
  const options = resolveTrainOptions(raw);
  const addon = replacements.addon ?? loadBinding(options.nativeBinding);
  const prepared = await prepare(options, addon, replacements);
  const { plan, memory, folder } = prepared;
  const onEvent = options.onEvent ?? (() => undefined);
  onEvent({ type: "plan", plan, memory });
  for (const message of plan.warnings) onEvent({ type: "warning", message });
  await folder.prepare();
  if (prepared.record === null) await folder.writeRecord(recordOf(options, plan, addon.version));
  const checkpoint = await runToEnd(options, prepared, addon, onEvent);
  return finish(options, prepared, checkpoint, onEvent);
}

interface Prepared {
  base: Base;
  tokens: TokenSource;
  heldout: TokenSource | null;
  plan: TrainPlan;
  memory: MemoryFigures;
  folder: RunFolder;
  record: RunRecord | null;
}

async function prepare(
  options: ResolvedTrainOptions,
  addon: Pick<NativeAddon, "trainerBytes">,
  { files }: Replacements,
): Promise<Prepared> {
  throwIfAborted(options.signal);
  const folder = new RunFolder(options.output, files);
  const record = await bindingRecord(folder, options.resume);
  const tokens = await openTokens("tokens", options.tokens);
  const heldout = options.heldout === undefined ? null : await openTokens("heldout", options.heldout);
  const { weights, heads, signal } = options;
  const base = await openBase(options.base, tokens, { weights, heads, signal });
  const reader = { architecture: base.config, tokenizerFingerprint: base.fingerprint };
  requireTokens(tokens.folder ?? "tokens", tokens, reader, "the base");
  if (heldout !== null) requireTokens(heldout.folder ?? "heldout", heldout, reader, "the base");
  throwIfAborted(options.signal);
  const classes = classesOf(options, base, tokens, heldout);
  const { memory, budget } = chooseMemory(options, base, tokens, addon, record);
  const { microBatch, checkpointing } = memory;
  const fresh = await makePlan(options, { base, tokens, classes: classes.tokens, microBatch, checkpointing });
  const plan = record === null ? fresh : continued(options.output, record.plan, fresh);
  const dataBytes = (tokens.heldBytes ?? 0) + (heldout?.heldBytes ?? 0);
  const figures = { trainerBytes: memory.bytes, dataBytes, budgetBytes: budget };
  return {
    base,
    tokens: relabelled(tokens, classes.tokens),
    heldout: heldout === null ? null : relabelled(heldout, classes.heldout!),
    plan,
    memory: figures,
    folder,
    record,
  };
}

/** A resumed run keeps the passes of its first part: another cut of the batch would add in another order. */
function chooseMemory(
  options: ResolvedTrainOptions,
  { config }: Base,
  tokens: TokenSource,
  addon: Pick<NativeAddon, "trainerBytes">,
  record: RunRecord | null,
): { memory: MemoryPlan; budget: number } {
  const { threads } = options;
  const before = record?.plan.recipe;
  const budget = options.memory ?? Math.floor(0.8 * machineMemory().availableBytes);
  const memory = planMemory((spec) => native(() => addon.trainerBytes(spec)), {
    config,
    threads,
    average: options.averageDecay > 0,
    batch: batchOf(options, tokens),
    microBatch: options.microBatch ?? before?.microBatch,
    checkpointing: options.checkpointing ?? before?.checkpointing,
    budget,
    asked: options.memory !== undefined,
  });
  return { memory, budget };
}

/**
 * The plan of a run that goes on, under the hash that its checkpoints have.
 *
 * @throws InvalidOptionError that names the settings that differ
 */
function continued(output: string, before: TrainPlan, now: TrainPlan): TrainPlan {
  if (before.hash === now.hash) return now;
  // Earlier versions kept the bytes of the memory plan in the recipe, which no weight depends on.
  const { bytes: _, ...recipe } = before.recipe as TrainPlan["recipe"] & { bytes?: number };
  const names = differences(recipe, now.recipe);
  if (names.length === 0) return { ...now, hash: before.hash };
  const found = `${output}, whose run has another ${names.join(", ")}`;
  throw new InvalidOptionError("resume", found, "the settings that the run began with");
}

function recordOf(options: ResolvedTrainOptions, plan: TrainPlan, version: string): RunRecord {
  return {
    version: 1,
    program: version,
    began: new Date().toISOString(),
    options: recordOptions(options),
    plan,
    machine: machineOf(options.threads),
  };
}

/** Opens the trainer, continues or begins, and returns the last checkpoint. The trainer's memory is free again then. */
async function runToEnd(
  options: ResolvedTrainOptions,
  { base, tokens, heldout, plan, folder, record }: Prepared,
  addon: Pick<NativeAddon, "openTrainer">,
  onEvent: (event: TrainEvent) => void,
): Promise<OpenedCheckpoint> {
  const warn = (message: string) => onEvent({ type: "warning", message });
  const checkpoint = record === null ? null : await folder.latest(warn);
  if (checkpoint !== null) requireOwn(checkpoint, plan);
  const { totalSteps, averageDecay } = plan.recipe;
  const step = checkpoint?.state.step ?? 0;
  const expected = heldout !== null && evaluationIsDue(plan, step) ? plan.depths.length : 0;
  const kept = await linesUntil(folder.metricsPath, checkpoint === null ? -1 : step, expected);
  if (checkpoint !== null && step === totalSteps && (expected === 0 || kept.evaluated)) return checkpoint;
  await folder.forgetAfter(step);
  const trainer = await openTrainer(options, base, plan, addon);
  let metrics: MetricsFile | null = null;
  try {
    if (checkpoint !== null) await restore(trainer, checkpoint, averageDecay > 0);
    metrics = await MetricsFile.open(folder.metricsPath, kept.bytes, folder.files);
    onEvent({ type: "start", step, totalSteps, resumed: checkpoint !== null, memoryBytes: trainer.memoryBytes });
    const from = { step, averages: checkpoint?.state.averages ?? {}, evaluated: kept.evaluated };
    const { save, signal } = options;
    await new Run({ plan, trainer, tokens, heldout, folder, metrics, save, from, onEvent, signal }).finish();
  } finally {
    await metrics?.close();
    await trainer.dispose();
  }
  const last = await folder.latest(warn);
  if (last?.state.step !== totalSteps) throw new InternalError("the last checkpoint is not there after the last step");
  return last;
}

function requireOwn({ path, state }: OpenedCheckpoint, plan: TrainPlan): void {
  if (state.hash === plan.hash) return;
  throw new InvalidOptionError(
    "resume",
    `${path}, which another run has written`,
    "checkpoints of the run in run.json",
  );
}

async function openTrainer(
  options: ResolvedTrainOptions,
  base: Base,
  { recipe }: TrainPlan,
  addon: Pick<NativeAddon, "openTrainer">,
): Promise<NativeTrainer> {
  const needed = (name: string) => name.startsWith("vae.quantize.") || name.startsWith("var.");
  const spec = {
    files: base.files,
    stamps: base.stamps,
    tensors: base.tensors.filter(({ name }) => needed(name)),
    config: base.config,
    strategy: recipe.strategy,
    threads: options.threads,
    initialSeed: base.initial ? BigInt(recipe.seed) : null,
    microBatch: recipe.microBatch,
    checkpointing: recipe.checkpointing,
    average: recipe.averageDecay > 0,
  };
  let trainer: NativeTrainer;
  try {
    trainer = await addon.openTrainer(spec);
  } catch (error) {
    throw wrapNative(error);
  }
  const found = trainer.parameters.map(({ name, shape }) => `${name} [${shape}]`).sort();
  const expected = [...base.parameters].map(([name, shape]) => `${name} [${shape}]`).sort();
  if (found.join() === expected.join()) return trainer;
  await trainer.dispose();
  throw new InternalError("the trainer's parameters are not those of the architecture");
}

/** The model first: whatever becomes of the report, it is there. */
async function finish(
  options: ResolvedTrainOptions,
  { base, plan, folder }: Prepared,
  checkpoint: OpenedCheckpoint,
  onEvent: (event: TrainEvent) => void,
): Promise<TrainResult> {
  const { dtype, name, signal, samples, threads, nativeBinding } = options;
  const path = folder.modelPath;
  await exportCheckpoint(base, plan, checkpoint, {
    output: path,
    dtype,
    name,
    signal,
    onProgress: (fraction) => onEvent({ type: "export", path, fraction }),
  });
  const warn = (message: string) => onEvent({ type: "warning", message });
  await writeReport(folder, { samples, threads, nativeBinding, signal, warn });
  onEvent({ type: "report", path: folder.reportPath });
  const lines = await readMetrics(folder.metricsPath);
  const { step } = checkpoint.state;
  const evaluation = lines.flatMap((line) => (line.type === "evaluation" && line.step === step ? [line] : []));
  return { output: folder.path, model: path, report: folder.reportPath, steps: step, evaluation };
}

function native<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw wrapNative(error);
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new AbortError("the training was cancelled before its first step", { cause: signal.reason });
}
