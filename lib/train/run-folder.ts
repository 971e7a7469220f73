/**
 * The folder of a run:
 *
 *     run.json                  options and plan, written once
 *     metrics.jsonl             one line per step and per evaluation
 *     step-000123.checkpoint    the last few, see checkpoint-file.ts
 *     model.safetensors         the result
 *     report.html
 */

import * as fs from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { InvalidCheckpointError, InvalidOptionError, IoError } from "../errors.js";
import { type Files, isAlive, writeAtomically } from "../files/atomic-file.js";
import { ioError } from "../files/io-error.js";
import type { NativeTrainer } from "../native/contract.js";
import { type OpenedCheckpoint, openTrainingCheckpoint, type TrainState, writeCheckpoint } from "./checkpoint-file.js";
import type { TrainPlan } from "./recipe.js";
import { withPresentNames } from "./record.js";

/** What run.json holds. */
export interface RunRecord {
  version: 1;
  /** Of nextscale. */
  program: string;
  began: string;
  /** As given, with absolute paths; token sets that are no folder are null. */
  options: Record<string, unknown>;
  plan: TrainPlan;
  machine: Record<string, string | number>;
}

const CHECKPOINT = /^step-(\d{6,})\.checkpoint$/;
/** What atomic writes and the probe of a killed process leave. */
const TEMPORARY =
  /^\.(?:(?:step-\d{6,}\.checkpoint|run\.json|metrics\.jsonl|model\.safetensors|report\.html)\..*|probe-\d+)\.tmp$/;

export class RunFolder {
  constructor(
    readonly path: string,
    readonly files: Files = fs,
  ) {}

  get metricsPath(): string {
    return join(this.path, "metrics.jsonl");
  }

  get modelPath(): string {
    return join(this.path, "model.safetensors");
  }

  get reportPath(): string {
    return join(this.path, "report.html");
  }

  checkpointPath(step: number): string {
    return join(this.path, `step-${String(step).padStart(6, "0")}.checkpoint`);
  }

  /** Makes the folder, proves that it can be written, and removes what a killed process has left half-written. */
  async prepare(): Promise<void> {
    try {
      await fs.mkdir(this.path, { recursive: true });
      const probe = join(this.path, `.probe-${process.pid}.tmp`);
      await (await fs.open(probe, "w")).close();
      await fs.rm(probe);
      for (const name of await fs.readdir(this.path)) {
        if (TEMPORARY.test(name)) await fs.rm(join(this.path, name), { force: true });
      }
    } catch (error) {
      throw ioError("cannot write into the folder", this.path, error);
    }
  }

  /** null when the folder holds no run. @throws InvalidCheckpointError, IoError */
  async readRecord(): Promise<RunRecord | null> {
    const path = join(this.path, "run.json");
    let text: string;
    try {
      text = await fs.readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw ioError("cannot read", path, error);
    }
    try {
      const record = JSON.parse(text) as RunRecord;
      const { plan, options } = record;
      if (record.version === 1 && typeof plan?.hash === "string" && typeof options === "object") {
        const recipe = withPresentNames(plan.recipe);
        return { ...record, options: withPresentNames(options), plan: { ...plan, recipe } };
      }
    } catch {
      // the same answer
    }
    throw new InvalidCheckpointError(`${path}: is not the description of a run`);
  }

  async writeRecord(record: RunRecord): Promise<void> {
    await writeAtomically(join(this.path, "run.json"), Buffer.from(`${JSON.stringify(record, null, 2)}\n`));
  }

  /** Steps that have a file of the right name, the newest first. */
  async steps(): Promise<number[]> {
    const names = await fs.readdir(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw ioError("cannot read", this.path, error);
    });
    const steps = names.flatMap((name) => CHECKPOINT.exec(name)?.[1] ?? []).map(Number);
    return steps.sort((a, b) => b - a);
  }

  /** The newest checkpoint that is whole, or null. Damaged ones are reported, and only then passed over. */
  async latest(warn: (message: string) => void): Promise<OpenedCheckpoint | null> {
    for (const step of await this.steps()) {
      try {
        return await openTrainingCheckpoint(this.checkpointPath(step));
      } catch (error) {
        if (!(error instanceof InvalidCheckpointError || error instanceof IoError)) throw error;
        warn(`${error.message}; the one before it is taken`);
      }
    }
    return null;
  }

  /** Writes a checkpoint, then removes all but the newest `keep`. */
  async save(trainer: NativeTrainer, state: TrainState, average: boolean, keep: number) {
    const path = this.checkpointPath(state.step);
    const bytes = await writeCheckpoint(path, trainer, state, average, this.files);
    const old = (await this.steps()).filter((step) => step < state.step).slice(Math.max(0, keep - 1));
    for (const step of old) await fs.rm(this.checkpointPath(step), { force: true });
    return { path, bytes };
  }

  /** Removes checkpoints beyond `step`: the ones that were found damaged. Their steps are done again. */
  async forgetAfter(step: number): Promise<void> {
    for (const other of await this.steps()) if (other > step) await fs.rm(this.checkpointPath(other), { force: true });
  }
}

/**
 * The record that binds what is done in the folder: that of a run to continue, or null for a fresh start. A record that
 * has outlived what the run had made, or that a run has left which never came to saving, binds nobody who does not ask
 * for it.
 *
 * @throws InvalidOptionError when a run is there that nobody asked to continue, or is still going on
 */
export async function bindingRecord(folder: RunFolder, resume: boolean): Promise<RunRecord | null> {
  const record = await folder.readRecord();
  if (record === null || resume) return record;
  const isEmpty = (await folder.steps()).length === 0 && !(await exists(folder.modelPath));
  if (isEmpty && !isGoingOn(record)) return null;
  const what = isEmpty ? "where a run is going on" : "which holds a run";
  throw new InvalidOptionError("output", `${folder.path}, ${what}`, "another folder, or resume to continue that run");
}

function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  );
}

/** Its process lives, on this machine. */
function isGoingOn({ machine }: RunRecord): boolean {
  const { host, process: pid } = machine;
  if (host !== hostname() || typeof pid !== "number" || pid === process.pid) return false;
  return isAlive(pid);
}
