/** `nextscale evaluate`: held-out cross entropy at every depth, and what a subnet costs where. */

import { Command, Option } from "commander";
import { TokenSet } from "../../data/index.js";
import { InvalidOptionError } from "../../errors.js";
import {
  type Evaluation,
  evaluateModel,
  measureSensitivity,
  type Sensitivity,
  sensitivityPlot,
} from "../../evaluate/index.js";
import { writeAtomically } from "../../files/atomic-file.js";
import { CLASS_RULES, type ClassRule, describeClassMap } from "../../labels/index.js";
import type { EvaluateProgress } from "../../options/evaluate.js";
import { integer, list, number } from "../args.js";
import { type CliContext, printJson } from "../context.js";
import { formatMs, formatTable } from "../format.js";
import { addLoadOptions, type LoadFlags, loadOptionsOf, nameOf, sourceOf } from "../options.js";
import { proveWritable } from "../output.js";
import { bar, createProgress, type Progress } from "../progress.js";

const EXAMPLES = `
Examples:
  $ nextscale evaluate digits-supernet.safetensors --tokens tokens/test
  $ nextscale evaluate digits-supernet.safetensors --tokens tokens/test --depths 2,4,8 --bridge 3 --limit 1000
  $ nextscale evaluate base.safetensors --tokens tokens/test --sensitivity --limit 500 --plot sensitivity.svg
  $ nextscale evaluate base.safetensors --tokens tokens/test --sensitivity --depth 4 --loss-budget 0.5 --json

Losses are means of the cross entropy in nats per token, teacher-forced and without guidance: lower is better.
`;

interface EvaluateFlags extends Omit<LoadFlags, "model"> {
  model?: string;
  tokens: string;
  depths?: number[];
  bridge?: number;
  sensitivity?: boolean;
  depth?: number;
  zones?: number;
  lossBudget?: number;
  plot?: string;
  limit?: number;
  batch?: number;
  classesBy?: ClassRule;
  verbose?: boolean;
  json?: boolean;
}

export function evaluateCommand(context: CliContext): Command {
  const command = new Command("evaluate")
    .description("held-out cross entropy of a model at every depth")
    .argument("[model]", "a model, as --model");
  return addLoadOptions(command)
    .requiredOption("-t, --tokens <folder>", "images that the model has not seen, made by tokenize")
    .option(
      "--depths <list>",
      "depths of the scales after the bridge (default: those it was trained for)",
      list(integer(1)),
    )
    .option("-b, --bridge <n>", "leading scales at full depth (default: the checkpoint's)", integer(0))
    .option("--sensitivity", "the cost of a subnet at each scale, in each zone, after each bridge; recommends a bridge")
    .option("-d, --depth <n>", "with --sensitivity: depth of the subnet (default: half)", integer(1))
    .option("--zones <n>", "with --sensitivity: number of zones (default: 3)", integer(1))
    .option(
      "--loss-budget <nats>",
      "with --sensitivity: nats per token that the recommended bridge may cost (default: 0.9 of what no bridge costs)",
      number(0, 1000),
    )
    .option("--plot <file>", "with --sensitivity: draw it, as .svg")
    .option("--limit <n>", "only so many images, spread evenly over the set", integer(1))
    .option("--batch <n>", "images at a time (default: 64)", integer(1, 4096))
    .addOption(
      new Option("--classes-by <rule>", "how the classes of the set find those of the model").choices(CLASS_RULES),
    )
    .option("--verbose", "one plain line per tenth instead of a progress bar")
    .option("--json", "print the figures as JSON")
    .addHelpText("after", EXAMPLES)
    .action((model: string | undefined, flags: EvaluateFlags) => evaluate(model, flags, context));
}

async function evaluate(path: string | undefined, flags: EvaluateFlags, context: CliContext): Promise<void> {
  const begin = performance.now();
  requireMode(flags);
  if (flags.plot !== undefined) await proveWritable(flags.plot);
  if (path !== undefined && flags.model !== undefined) {
    throw new InvalidOptionError("--model", "a model before it as well", "one of the two");
  }
  const source = sourceOf({ ...flags, ...(path !== undefined && { model: path }) });
  const progress = createProgress(context, flags.verbose ?? false);
  try {
    const tokens = await TokenSet.open(flags.tokens);
    const model = await context.loadModel(source, { ...loadOptionsOf(flags), signal: context.signal });
    for (const warning of model.warnings) progress.warn(warning);
    try {
      const { limit, batch, classesBy } = flags;
      const common = {
        model,
        tokens,
        signal: context.signal,
        onProgress: meter(progress),
        ...(limit !== undefined && { limit }),
        ...(batch !== undefined && { batch }),
        ...(classesBy !== undefined && { classesBy }),
      };
      const name = nameOf(source);
      const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
      const tellMap = ({ classes }: Pick<Evaluation, "classes">) => {
        const line = describeClassMap(classes, tokens, known);
        if (line !== null) context.stderr.write(`${line}\n`);
      };
      if (flags.sensitivity) {
        const { depth, zones, lossBudget } = flags;
        const result = await measureSensitivity({
          ...common,
          ...(depth !== undefined && { depth }),
          ...(zones !== undefined && { zones }),
          ...(lossBudget !== undefined && { lossBudget }),
        });
        if (flags.plot !== undefined) await writeAtomically(flags.plot, Buffer.from(sensitivityPlot(result)));
        progress.close();
        tellMap(result);
        const facts = { model: name, ...result, plot: flags.plot ?? null, totalMs: performance.now() - begin };
        if (flags.json) printJson(context, facts);
        else context.stdout.write(sensitivityText(facts));
      } else {
        const { depths, bridge } = flags;
        const result = await evaluateModel({
          ...common,
          ...(depths !== undefined && { depths }),
          ...(bridge !== undefined && { bridge }),
        });
        progress.close();
        tellMap(result);
        const facts = { model: name, ...result, totalMs: performance.now() - begin };
        if (flags.json) printJson(context, facts);
        else context.stdout.write(evaluationText(facts));
      }
    } finally {
      await model.dispose();
    }
  } finally {
    progress.close();
  }
}

/** Flags of the other mode would be ignored without a word. */
function requireMode(flags: EvaluateFlags): void {
  const others = flags.sensitivity
    ? (["depths", "bridge"] as const)
    : (["depth", "zones", "lossBudget", "plot"] as const);
  const FLAG = {
    depths: "--depths",
    bridge: "--bridge",
    depth: "--depth",
    zones: "--zones",
    lossBudget: "--loss-budget",
    plot: "--plot",
  };
  for (const key of others) {
    if (flags[key] === undefined) continue;
    const found = flags.sensitivity ? "--sensitivity beside it" : "no --sensitivity beside it";
    const expected = flags.sensitivity ? "an evaluation without --sensitivity" : "--sensitivity";
    throw new InvalidOptionError(FLAG[key], found, expected);
  }
}

function meter(progress: Progress): (state: EvaluateProgress) => void {
  const begin = performance.now();
  let tenth = 0;
  return ({ done, total }) => {
    const fraction = done / total;
    const elapsed = performance.now() - begin;
    const left = formatMs((elapsed * (total - done)) / done);
    progress.update(
      `${bar(fraction)} ${String(Math.floor(100 * fraction)).padStart(3)}%  ${done} of ${total} images  ${left} left`,
    );
    if (Math.floor(10 * fraction) === tenth) return;
    tenth = Math.floor(10 * fraction);
    progress.log(`${10 * tenth}%  ${done} of ${total} images`);
  };
}

const nats = (value: number) => value.toFixed(3);
const added = (value: number) => `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(3)}`;

function evaluationText(result: Evaluation & { model: string; totalMs: number }): string {
  const { model, tokens, images, numTokens, bridge, depths, sides, totalMs } = result;
  const after = bridge > 0 ? `, the first ${bridge} scale${bridge > 1 ? "s" : ""} at full depth` : "";
  const rows = depths.map(({ depth, mean, standardError, cost, perScale }, index) => [
    String(depth),
    nats(mean),
    `±${nats(standardError)}`,
    index === 0 ? "" : added(cost),
    ...perScale.map((loss) => loss.toFixed(2)),
  ]);
  const head = ["depth", "nats/token", "", "over full", ...sides.map((side, scale) => `${scale} (${side})`)];
  return [
    `${model}: ${images} image${images > 1 ? "s" : ""} of ${tokens}, ${numTokens} tokens each${after}, ${formatMs(totalMs)}\n`,
    "nats per token; on the right by scale (side)\n",
    formatTable([head, ...rows]),
  ].join("\n");
}

function sensitivityText(result: Sensitivity & { model: string; plot: string | null; totalMs: number }): string {
  const {
    model,
    tokens,
    images,
    depth,
    fullDepth,
    full,
    scales,
    zones,
    bridges,
    sides,
    lossBudget,
    recommendedBridge,
    plot,
    totalMs,
  } = result;
  const rangeRow = ({ first, last, mean, cost, costPerToken }: Sensitivity["scales"][number]) => [
    first === last ? `scale ${first}` : `scales ${first}-${last}`,
    first === last ? String(sides[first]) : `${sides[first]}-${sides[last]}`,
    nats(mean),
    added(cost),
    added(costPerToken),
  ];
  const head = [`depth ${depth} at`, "side", "nats/token", "over full", "per shallow token"];
  const bridgeRows = bridges.map(({ bridge, mean, cost }) => [
    String(bridge),
    nats(mean),
    added(cost),
    bridge === recommendedBridge ? "<- recommended" : "",
  ]);
  return [
    `${model}: ${images} image${images > 1 ? "s" : ""} of ${tokens}, depth ${depth} of ${fullDepth} blocks, ${formatMs(totalMs)}\n`,
    `full depth everywhere: ${nats(full.mean)} nats/token ±${nats(full.standardError)}\n`,
    formatTable([head, ...scales.map(rangeRow), ...zones.filter(({ first, last }) => first !== last).map(rangeRow)]),
    formatTable([["bridge", "nats/token", "over full", ""], ...bridgeRows]),
    `recommended bridge: ${recommendedBridge}, the shortest one within ${nats(lossBudget)} nats per token over full depth\n`,
    ...(plot === null ? [] : [`${plot}: plot\n`]),
  ].join("\n");
}
