/** `nextscale train`: tokens and a base -> a supernet, resumable; and the export of a run's checkpoint. */

import { Command, InvalidArgumentError, Option } from "commander";
import { AbortError, InvalidOptionError } from "../../errors.js";
import { CLASS_RULES, type ClassRule } from "../../labels/index.js";
import type { DType } from "../../native/contract.js";
import type { TrainOptions } from "../../options/train.js";
import type { EvaluationMetrics, MemoryFigures, TrainEvent } from "../../train/events.js";
import { exportRun } from "../../train/export.js";
import type { TrainPlan } from "../../train/recipe.js";
import { RunFolder } from "../../train/run-folder.js";
import { type PlannedTraining, planTraining, type Replacements, train } from "../../train/train.js";
import type { Strategy } from "../../values/architecture.js";
import { integer, list, number } from "../args.js";
import { type CliContext, printJson } from "../context.js";
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

interface TrainFlags {
  config?: string;
  output?: string;
  resume?: boolean;
  dryRun?: boolean;
  export?: string;
  base?: string;
  tokens?: string;
  heldout?: string;
  classesBy?: ClassRule;
  depths?: number[];
  bridge?: number;
  strategy?: Strategy;
  ratio?: TrainOptions["ratio"];
  epochs?: number;
  steps?: number;
  batch?: number;
  microBatch?: number;
  memory?: number;
  threads?: number;
  learningRate?: number;
  average?: number | false;
  seed?: number;
  samples?: number;
  name?: string;
  dtype?: DType;
  verbose?: boolean;
  json?: boolean;
}

export function trainCommand(context: CliContext, replacements: Replacements = {}): Command {
  return new Command("train")
    .description("train a model so that it works at several depths")
    .option("-c, --config <file>", "supernet.json; the flags below override it")
    .option("-o, --output <path>", 'folder of the run (default: "run"), or the file of an export')
    .option("--resume", "continue the run in the folder")
    .option("--dry-run", "print the plan and the memory, and stop")
    .option("--export <run>", "write the newest checkpoint of a run as a model")
    .option("--base <file>", 'the model to begin with, or "digits"')
    .option("--tokens <folder>", "tokens to train on (nextscale tokenize)")
    .option("--heldout <folder>", "tokens to evaluate on")
    .addOption(
      new Option("--classes-by <rule>", "how the classes of the tokens find those of the base").choices(CLASS_RULES),
    )
    .option("--depths <list>", "depths of the subnets, such as 2,4,8", list(integer(1)))
    .option("--bridge <n>", "leading scales at full depth", integer(0))
    .addOption(new Option("--strategy <name>", "choice of a subnet's blocks").choices(["even", "nested"]))
    .option("--ratio <p>", "share of subnet steps: 0.1, or 0.2:1 to rise; 0 trains the full network", ratio)
    .option("--epochs <n>", "length of the run", number(0))
    .option("--steps <n>", "length of the run in steps", integer(1))
    .option("--batch <n>", "images per step", integer(1))
    .option("--micro-batch <n>", "images per pass (default: what the memory allows)", integer(1))
    .option("--memory <size>", "memory to use, such as 8GiB (default: 80 % of what is free)", bytes)
    .option("--threads <n>", "worker threads (default: all cores)", integer(1, 1024))
    .option("--learning-rate <rate>", "peak of the learning rate", number(0))
    .option("--average <decay>", "export an exponential average of the weights", number(0, 1))
    .option("--no-average", "no average; with --export: the weights themselves")
    .option("-s, --seed <n>", "of everything that is drawn", integer(0))
    .option("--samples <n>", "images per depth in the report; 0 = none", integer(0))
    .option("--name <text>", "name of the model")
    .addOption(new Option("--dtype <dtype>", "number format of the model's matrices").choices(["f32", "f16", "bf16"]))
    .option("--verbose", "plain lines instead of a progress bar")
    .option("--json", "print the result as JSON")
    .addHelpText("after", EXAMPLES)
    .action((flags: TrainFlags) => run(flags, context, replacements));
}

async function run(flags: TrainFlags, context: CliContext, replacements: Replacements): Promise<void> {
  if (flags.export !== undefined) return exportModel(flags.export, flags, context);
  const options = await optionsOf(flags, context);
  if (flags.dryRun) {
    const planned = await planTraining(options, replacements);
    return flags.json ? printJson(context, planned) : printPlan(planned, context);
  }
  const progress = createProgress(context, flags.verbose ?? false);
  const display = new TrainProgress(progress);
  const onEvent = (event: TrainEvent) => {
    if (event.type === "plan") context.stderr.write(describeStart(event.plan, event.memory));
    display.show(event);
  };
  try {
    const { report, ...result } = await train({ ...options, onEvent, signal: context.signal }, replacements);
    progress.close();
    if (flags.json) return printJson(context, { ...result, report });
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
async function optionsOf(flags: TrainFlags, { env }: CliContext): Promise<TrainOptions> {
  const output = flags.output ?? "run";
  const from = flags.config !== undefined ? await readTrainConfig(flags.config) : await recordedOptions(flags, output);
  const given: RawTrainOptions = {};
  const keys = [
    ...([
      "base",
      "tokens",
      "heldout",
      "classesBy",
      "depths",
      "bridge",
      "strategy",
      "ratio",
      "seed",
      "batch",
      "microBatch",
    ] as const),
    ...(["memory", "threads", "learningRate", "samples", "name", "dtype", "resume"] as const),
  ];
  for (const key of keys) if (flags[key] !== undefined) given[key] = flags[key];
  if (flags.average !== undefined && flags.average !== (true as unknown)) given.average = flags.average || 0;
  const length = flags.steps ?? flags.epochs; // one flag replaces the other's value in the file
  if (length !== undefined) Object.assign(given, { steps: flags.steps, epochs: flags.epochs });
  if (flags.output !== undefined || from.output === undefined) given.output = output;
  if (env.NEXTSCALE_BINDING !== undefined && from.nativeBinding === undefined)
    given.nativeBinding = env.NEXTSCALE_BINDING;
  return { ...from, ...given } as unknown as TrainOptions;
}

async function recordedOptions({ resume, base, tokens }: TrainFlags, output: string): Promise<RawTrainOptions> {
  const record = resume ? await new RunFolder(output).readRecord() : null;
  if (record !== null) return record.options;
  if (base !== undefined && tokens !== undefined) return {};
  const expected = resume ? `a folder with a run.json, or --config` : "a file, or --base and --tokens";
  throw new InvalidOptionError(resume ? "--output" : "--config", resume ? output : "nothing", expected);
}

async function exportModel(folder: string, flags: TrainFlags, context: CliContext): Promise<void> {
  const { output, average, dtype, name } = flags;
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

/** `0.1`, or `0.2:1`. */
function ratio(text: string): TrainOptions["ratio"] {
  const share = number(0, 1);
  if (!text.includes(":")) return share(text);
  const [start, end, ...rest] = text.split(":");
  if (rest.length > 0) throw new InvalidArgumentError("Expected a share such as 0.1, or 0.2:1.");
  return { start: share(start!), end: share(end!) };
}

const UNITS: Record<string, number> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `8GiB`, `500M`, `123456`. */
function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const value = match === null ? 0 : Math.floor(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!);
  if (value < 1) throw new InvalidArgumentError("Expected a size such as 8GiB.");
  return value;
}
