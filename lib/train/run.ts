/**
 * The loop: steps, evaluations, checkpoints. Everything that a step does is a function of (recipe, step) and of what
 * the trainer holds, so a run that continues from a checkpoint ends with the same bits as one that was never
 * interrupted.
 */

import { AbortError, NextscaleError, TrainingDivergedError, wrapNative } from "../errors.js";
import type { NativeStepResult, NativeTrainer } from "../native/contract.js";
import { numTokens } from "../values/architecture.js";
import type { TokenBatch, TokenSource } from "../values/token-source.js";
import { Batches } from "./batches.js";
import { evaluate } from "./evaluate.js";
import type { StepMetrics, TrainEvent } from "./events.js";
import type { MetricsFile } from "./metrics.js";
import { scheduleOf } from "./plan.js";
import type { TrainPlan } from "./recipe.js";
import type { RunFolder } from "./run-folder.js";
import type { Schedule, StepPlan } from "./schedule.js";

export interface RunParts {
  plan: TrainPlan;
  trainer: NativeTrainer;
  tokens: TokenSource;
  heldout: TokenSource | null;
  folder: RunFolder;
  metrics: MetricsFile;
  save: { everySteps: number | undefined; everyMinutes: number; keep: number };
  /** Where a resumed run stands. */
  from: { step: number; averages: Record<number, number>; evaluated: boolean };
  onEvent: (event: TrainEvent) => void;
  signal: AbortSignal | undefined;
}

/** Share of the past in the moving averages. */
const MEMORY = 0.98;

export class Run {
  readonly #parts: RunParts;
  readonly #schedule: Schedule;
  readonly #batches: Batches;
  readonly #averages: Record<number, number>;
  #step: number; // updates done
  #savedStep: number;
  #savedAt = performance.now();
  #stepMs = 0; // moving average of a step's time, with everything around it

  constructor(parts: RunParts) {
    const { recipe } = parts.plan;
    this.#parts = parts;
    this.#schedule = scheduleOf(parts.plan);
    this.#batches = new Batches(parts.tokens, { ...recipe, numClasses: recipe.config.numClasses });
    this.#averages = { ...parts.from.averages };
    this.#step = parts.from.step;
    this.#savedStep = parts.from.step > 0 ? parts.from.step : -1;
  }

  /** Runs to the last step. @throws AbortError after saving, TrainingDivergedError, IoError */
  async finish(): Promise<void> {
    const { plan, from } = this.#parts;
    const { totalSteps } = plan.recipe;
    if (!from.evaluated) await this.#evaluateIfDue();
    let next = this.#readAhead(this.#step);
    while (this.#step < totalSteps) {
      await this.#stopIfAsked();
      const batch = await next;
      next = this.#readAhead(Math.min(this.#step + 1, totalSteps - 1));
      await this.#train(batch);
      await this.#evaluateIfDue();
      if (this.#saveIsDue()) await this.#save();
    }
    if (this.#savedStep < this.#step) await this.#save();
    await this.#stopIfAsked();
  }

  /** The tokens of a step; a failure is kept for whoever awaits it. */
  #readAhead(step: number): Promise<TokenBatch> {
    const batch = this.#batches.at(step);
    batch.catch(() => undefined);
    return batch;
  }

  async #stopIfAsked(): Promise<void> {
    const { signal, folder } = this.#parts;
    if (!signal?.aborted) return;
    if (this.#savedStep < this.#step) await this.#save();
    const message = `stopped after step ${this.#step}, which is saved in ${folder.path}: resume continues there`;
    throw new AbortError(message, { cause: signal.reason });
  }

  async #train(batch: TokenBatch): Promise<void> {
    const begin = performance.now();
    const plan = this.#schedule.at(this.#step);
    const result = await this.#update(plan, batch);
    this.#step++;
    const { totalSteps } = this.#parts.plan.recipe;
    const line = this.#metricsOf(plan, result);
    await this.#parts.metrics.append([line]);
    const before = this.#averages[plan.depth];
    this.#averages[plan.depth] = before === undefined ? result.loss : MEMORY * before + (1 - MEMORY) * result.loss;
    const ms = performance.now() - begin;
    this.#stepMs = this.#stepMs === 0 ? ms : MEMORY * this.#stepMs + (1 - MEMORY) * ms;
    const remainingMs = this.#stepMs * (totalSteps - this.#step);
    this.#parts.onEvent({ ...line, totalSteps, averages: { ...this.#averages }, remainingMs });
  }

  async #update(plan: StepPlan, { tokens, labels }: TokenBatch): Promise<NativeStepResult> {
    const { recipe } = this.#parts.plan;
    try {
      const result = await this.#parts.trainer.step({
        tokens,
        labels,
        depths: plan.depths,
        labelSmoothing: recipe.labelSmoothing,
        learningRate: plan.learningRate,
        ...recipe.optimizer,
        averageDecay: averageDecayAt(recipe.averageDecay, plan.step),
        update: true,
      });
      if (Number.isFinite(result.loss)) return result;
      throw this.#diverged(`the loss is ${result.loss}`);
    } catch (thrown) {
      const error = wrapNative(thrown);
      if (!(error instanceof NextscaleError) || error.code !== "NOT_FINITE") throw error;
      throw this.#diverged(error.message, error);
    }
  }

  #diverged(what: string, cause?: unknown): TrainingDivergedError {
    const step = this.#step + 1;
    const checkpoint = this.#savedStep < 0 ? null : this.#parts.folder.checkpointPath(this.#savedStep);
    const rest = checkpoint === null ? "nothing had been saved yet" : `the last good checkpoint is ${checkpoint}`;
    const message = `training diverged at step ${step}: ${what}; ${rest}. A lower learning rate or a longer warm-up may help`;
    return new TrainingDivergedError(message, { step, checkpoint }, { cause });
  }

  #metricsOf(plan: StepPlan, { loss, lossPerScale, gradientNorm, ms }: NativeStepResult): StepMetrics {
    const { recipe } = this.#parts.plan;
    return {
      type: "step",
      step: this.#step,
      epoch: plan.epoch,
      depth: plan.depth,
      loss,
      perScale: [...lossPerScale],
      gradientNorm,
      ratio: plan.ratio,
      learningRate: plan.learningRate,
      ms,
      tokensPerSecond: (1000 * recipe.batch * numTokens(recipe.config.sides)) / Math.max(ms, 1e-3),
    };
  }

  /** Before the first step, every so many steps, and after the last one. */
  async #evaluateIfDue(): Promise<void> {
    const { plan, trainer, heldout, metrics, signal, onEvent } = this.#parts;
    const { recipe } = plan;
    if (heldout === null || !evaluationIsDue(plan, this.#step)) return;
    const epoch = this.#schedule.at(this.#step).epoch;
    const lines = await evaluate(
      trainer,
      heldout,
      { step: this.#step, epoch },
      {
        schedule: this.#schedule,
        depths: plan.depths,
        images: plan.evaluation.images,
        microBatch: recipe.microBatch,
        average: recipe.averageDecay > 0,
        signal,
      },
    );
    if (lines === null) return; // a resumed run does it again
    await metrics.append(lines);
    for (const line of lines) onEvent(line);
  }

  #saveIsDue(): boolean {
    const { everySteps, everyMinutes } = this.#parts.save;
    if (everySteps !== undefined && this.#step % everySteps === 0) return true;
    return performance.now() - this.#savedAt > 60_000 * everyMinutes;
  }

  async #save(): Promise<void> {
    const { plan, trainer, folder, metrics, save, onEvent } = this.#parts;
    const begin = performance.now();
    await metrics.sync(); // the lines first: a checkpoint may have too many of them, not too few
    const state = { step: this.#step, hash: plan.hash, averages: this.#averages };
    const { path, bytes } = await folder.save(trainer, state, plan.recipe.averageDecay > 0, save.keep);
    this.#savedStep = this.#step;
    this.#savedAt = performance.now();
    onEvent({ type: "save", step: this.#step, path, bytes, ms: this.#savedAt - begin });
  }
}

export function evaluationIsDue({ recipe, evaluation }: TrainPlan, step: number): boolean {
  return step % evaluation.everySteps === 0 || step === recipe.totalSteps;
}

/** A long memory would keep the first weights for long: at step s it is at most (1 + s) / (10 + s), as is usual. */
function averageDecayAt(decay: number, step: number): number {
  return Math.min(decay, (1 + step) / (10 + step));
}
