/** A training checkpoint and the base's tokenizer -> an ordinary model file. */

import { writeModel } from "../checkpoint/convert.js";
import { checkNotes } from "../checkpoint/metadata.js";
import { InternalError, InvalidCheckpointError, InvalidOptionError } from "../errors.js";
import type { DType, TensorEntry } from "../native/contract.js";
import type { ModelNotes } from "../options/checkpoint.js";
import { type Base, openBase } from "./base.js";
import type { OpenedCheckpoint } from "./checkpoint-file.js";
import type { TrainPlan } from "./recipe.js";
import { isRecordedBase } from "./record.js";
import { RunFolder, type RunRecord } from "./run-folder.js";

export interface ExportOptions {
  output: string;
  /** Take the averaged weights. Default: when the run keeps them. */
  average?: boolean | undefined;
  /** Format of the matrices. Default `"f32"`. */
  dtype?: DType | undefined;
  name?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((fraction: number) => void) | undefined;
}

/** Where an exported model came from. */
export interface ExportResult {
  path: string;
  bytes: number;
  /** Updates that the weights have seen. */
  step: number;
}

/**
 * Writes the newest checkpoint of a run as a model. @throws InvalidCheckpointError, InvalidOptionError, IoError,
 * AbortError
 */
export async function exportRun(run: string, options: ExportOptions): Promise<ExportResult> {
  const folder = new RunFolder(run);
  const record = await folder.readRecord();
  if (record === null) throw new InvalidOptionError("run", run, "the folder of a run: it has a run.json");
  const checkpoint = await folder.latest(() => undefined);
  if (checkpoint === null) throw new InvalidCheckpointError(`${run}: holds no checkpoint yet`);
  return exportCheckpoint(await baseOf(record, options.signal), record.plan, checkpoint, options);
}

async function baseOf({ options, plan }: RunRecord, signal: AbortSignal | undefined): Promise<Base> {
  if (!isRecordedBase(options.base)) throw new InvalidCheckpointError("run.json names no base");
  const heads = typeof options.heads === "number" ? options.heads : undefined;
  const weights = typeof options.weights === "string" ? options.weights : undefined;
  const classes = Array.from({ length: plan.recipe.config.numClasses }, String);
  const base = await openBase(options.base, { sides: plan.recipe.config.sides, classes }, { weights, heads, signal });
  if (base.fingerprint === plan.recipe.tokenizer) return base;
  throw new InvalidCheckpointError(`${base.files.join(", ")}: holds another tokenizer than the run began with`);
}

export async function exportCheckpoint(
  base: Base,
  plan: TrainPlan,
  checkpoint: OpenedCheckpoint,
  { output, average = plan.recipe.averageDecay > 0, dtype, name, signal, onProgress }: ExportOptions,
): Promise<ExportResult> {
  if (average && plan.recipe.averageDecay === 0)
    throw new InvalidOptionError("average", "true", "a run that keeps an average");
  const { config } = base;
  const files = [...base.files, checkpoint.path];
  const model = { files, stamps: base.stamps, tensors: tensorsOf(base, checkpoint, average), config };
  const notes = notesOf(base, plan, checkpoint.state.step, name);
  const problem = checkNotes(notes, { config });
  if (problem !== null) throw new InternalError(`the notes of the exported model are not valid: ${problem}`);
  const bytes = await writeModel(model, notes, { output, dtype, signal, onProgress });
  return { path: output, bytes, step: checkpoint.state.step };
}

/** The tokenizer out of the base's files, the transformer out of the checkpoint, which comes after them. */
function tensorsOf(base: Base, checkpoint: OpenedCheckpoint, average: boolean): TensorEntry[] {
  const file = base.files.length;
  const array = average ? "average" : "weights";
  const transformer = [...base.parameters.keys()].map((name): TensorEntry => {
    const tensor = checkpoint.tensors.get(`${array}.${name}`);
    if (tensor === undefined) throw new InvalidCheckpointError(`${checkpoint.path}: ${array}.${name} is missing`);
    return { name: `var.${name}`, dtype: "f32", shape: tensor.shape, file, offset: tensor.offset };
  });
  return [...base.tensors.filter(({ name }) => name.startsWith("vae.")), ...transformer];
}

/** What `generate` offers, and where the weights come from. */
function notesOf({ notes }: Base, plan: TrainPlan, step: number, name: string | undefined): ModelNotes {
  const { config: _, ...recipe } = plan.recipe;
  const { depths: __, labels: ___, name: baseName, ...inherited } = notes;
  return {
    ...inherited,
    ...((name ?? baseName) !== undefined && { name: name ?? baseName }),
    ...(plan.labels !== undefined && { labels: plan.labels }),
    depths: plan.depths,
    bridge: recipe.bridge,
    strategy: recipe.strategy,
    metadata: {
      ...notes.metadata,
      "training.steps": `${step} of ${recipe.totalSteps}`,
      "training.data": recipe.data,
      "training.recipe": JSON.stringify(recipe),
    },
  };
}
