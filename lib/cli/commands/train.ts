/** `nextscale train`: tokens and a base -> a supernet, resumable; and the export of a run's checkpoint. */

import { Command } from "commander";
import { AbortError, InvalidOptionError } from "../../errors.js";
import { boolean, text } from "../../options/kinds.js";
import { row, table } from "../../options/table.js";
import { TRAIN, type TrainOptions } from "../../options/train.js";
import type { EvaluationMetrics, MemoryFigures, TrainEvent } from "../../train/events.js";
import { exportRun } from "../../train/export.js";
import type { TrainPlan } from "../../train/recipe.js";
import { RunFolder } from "../../train/run-folder.js";
import { type PlannedTraining, planTraining, type Replacements, train } from "../../train/train.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, type Flags, given, OUTPUT } from "../flags.js";
import { formatBytes, formatCount, formatSection, formatTable } from "../format.js";
import { createProgress } from "../progress.js";
import { type RawTrainOptions, readTrainConfig } from "../train-config.js";
import { TrainProgress } from "../train-progress.js";

const EXAMPLES = `
Examples:
  $ nextscale train --config supernet.json -o run
  $ nextscale train --config supernet.json -o run --resume           go on after Ctrl-C, a crash or a power cut
  $ nextscale train --resume -o run                                  the same: the run remembers its settings
  $ nextscale train --config supernet.json --dry-run                 steps, depths and memory; nothing is written
  $ nextscale train --base digits --tokens tokens --heldout heldout --depths 2,4 --bridge 3 --epochs 10 -o run
  $ nextscale train --config supernet.json --ratio 0.1 -o fixed      a fixed share of subnet steps, to compare
  $ nextscale train --export run -o model.safetensors                the newest checkpoint of a run as a model

supernet.json holds the options of trainSupernet, with paths relative to the file:
  { "base": "d16.safetensors", "tokens": "tokens", "heldout": "heldout", "depths": [2, 4, 8], "bridge": 6,
    "phases": { "joint": 5, "transition": 15, "subnet": 10 }, "ratio": { "start": 0.2, "end": 1 }, "learningRate": 1e-5 }
`;

const OWN = table({
  config: row(text(), "supernet.json; the flags below override it", { flag: "-c, --config <file>" }),
  output: row(text(), "folder of the run, or the file of an export", { otherwise: "run", flag: "-o, --output <path>" }),
  dryRun: row(boolean(), "print the plan and the memory, and stop", { flag: "--dry-run" }),
  export: row(text(), "write the newest checkpoint of a run as a model", { flag: "--export <run>" }),
});

/** Commander makes `average` of it: true, or false when it is given. */
const NO_AVERAGE = table({
  average: row(boolean(), "no average; with --export: the weights themselves", { flag: "--no-average" }),
});

export function trainCommand(context: CliContext, replacements: Replacements = {}): Command {
  const command = new Command("train").description("train a model so that it works at several depths");
  return addFlags(command, [OWN, TRAIN, NO_AVERAGE, OUTPUT], true)
    .addHelpText("after", EXAMPLES)
    .action((flags: Flags) => run(flags, context, replacements));
}

async function run(flags: Flags, context: CliContext, replacements: Replacements): Promise<void> {
  const { dryRun, export: exported } = given(OWN, flags);
  const { verbose, json } = given(OUTPUT, flags);
  if (exported !== undefined) return exportModel(exported, flags, context);
  const options = await optionsOf(flags, context);
  if (dryRun) {
    const planned = await planTraining(options, replacements);
    return json ? printJson(context, planned) : printPlan(planned, context);
  }
  const progress = createProgress(context, verbose ?? false);
  const display = new TrainProgress(progress);
  const onEvent = (event: TrainEvent) => {
    if (event.type === "plan") context.stderr.write(describeStart(event.plan, event.memory));
    display.show(event);
  };
  try {
    const { report, ...result } = await train({ ...options, onEvent, signal: context.signal }, replacements);
    progress.close();
    if (json) return printJson(context, { ...result, report });
    context.stdout.write(`${heldoutTable(result.evaluation)}${result.model}: ${result.steps} steps\n${report}\n`);
  } catch (error) {
    progress.close();
    if (error instanceof AbortError) context.stderr.write(`${error.message} (--resume)\n`);
    throw error;
  } finally {
    progress.close();
  }
}

/** The config file, or the run's own record when it is resumed without one; then the flags. */
async function optionsOf(flags: Flags, { env }: CliContext): Promise<TrainOptions> {
  const { config, output = "run" } = given(OWN, flags);
  const typed: RawTrainOptions = given(TRAIN, flags);
  const from = config !== undefined ? await readTrainConfig(config) : await recordedOptions(typed, output);
  if (given(NO_AVERAGE, flags).average === false) typed.averageDecay = 0;
  const { steps, epochs } = typed; // one of them replaces the other's value in the file
  if (steps !== undefined || epochs !== undefined) Object.assign(typed, { steps, epochs });
  if (flags.output !== undefined || from.output === undefined) typed.output = output;
  if (env.NEXTSCALE_BINDING !== undefined) typed.nativeBinding = from.nativeBinding ?? env.NEXTSCALE_BINDING;
  if (typed.optimizer !== undefined)
    typed.optimizer = { ...(from.optimizer as object), ...(typed.optimizer as object) };
  return { ...from, ...typed } as unknown as TrainOptions;
}

async function recordedOptions({ resume, base, tokens }: RawTrainOptions, output: string): Promise<RawTrainOptions> {
  const record = resume ? await new RunFolder(output).readRecord() : null;
  if (record !== null) return record.options;
  if (base !== undefined && tokens !== undefined) return {};
  const expected = resume ? `a folder with a run.json, or --config` : "a file, or --base and --tokens";
  throw new InvalidOptionError(resume ? "--output" : "--config", resume ? output : "nothing", expected);
}

async function exportModel(folder: string, flags: Flags, context: CliContext): Promise<void> {
  const { output } = given(OWN, flags);
  const { average } = given(NO_AVERAGE, flags);
  const { dtype, name } = given(TRAIN, flags);
  if (output === undefined || !/\.safetensors$/i.test(output)) {
    throw new InvalidOptionError("--output", output ?? "nothing", "a name that ends in .safetensors");
  }
  const { signal } = context;
  const result = await exportRun(folder, { output, dtype, name, signal, ...(average === false && { average }) });
  if (flags.json) return printJson(context, result);
  context.stdout.write(`${result.path}: ${formatBytes(result.bytes)}, weights after step ${result.step}\n`);
}

/** What is said before the first step: length, depths, memory. */
function describeStart({ recipe, depths, stepsPerEpoch }: TrainPlan, memory: MemoryFigures): string {
  const { totalSteps, batch, microBatch, checkpointing, images, bridge } = recipe;
  const passes = Math.ceil(batch / microBatch);
  const cut = passes === 1 ? "" : ` in ${passes} passes of up to ${microBatch}`;
  const epochs = (totalSteps / stepsPerEpoch).toFixed(1);
  return formatSection("training", [
    ["steps", `${totalSteps} of ${batch} images${cut}: ${epochs} times ${formatCount(images)} images`],
    ["depths", `${depths.join(", ")}; the first ${bridge} scales at full depth`],
    ["memory", `${formatBytes(memory.trainerBytes)}${checkpointing ? ", blocks run again on the way back" : ""}`],
    ["tokens", `${formatBytes(memory.dataBytes)} held in memory`],
  ]);
}

function printPlan({ plan, memory }: PlannedTraining, context: CliContext): void {
  const { recipe, evaluation, warnings } = plan;
  const { phases, ratio, learningRate } = recipe;
  context.stdout.write(describeStart(plan, memory));
  context.stdout.write(
    formatSection("schedule", [
      [
        "phases",
        `${round(phases.joint)} joint, ${round(phases.transition)} transition, ${round(phases.subnet)} subnet epochs`,
      ],
      ["subnet steps", ratio.start === ratio.end ? `${ratio.start}` : `${ratio.start} rising to ${ratio.end}`],
      ["learning rate", `${learningRate.peak.toPrecision(3)}, ${learningRate.schedule}`],
      ["evaluation", `every ${evaluation.everySteps} steps`],
    ]),
  );
  for (const warning of warnings) context.stderr.write(`warning: ${warning}\n`);
}

function round(value: number): number {
  return Number(value.toFixed(2));
}

function heldoutTable(evaluation: readonly EvaluationMetrics[]): string {
  if (evaluation.length === 0) return "";
  const rows = evaluation.map(({ depth, loss, images }) => [String(depth), loss.toFixed(4), String(images)]);
  return formatTable([["depth", "held-out nats per token", "images"], ...rows]);
}
