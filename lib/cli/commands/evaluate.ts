/** `nextscale evaluate`: held-out cross entropy at every depth, and what a subnet costs where. */

import { Command } from "commander";
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
import { describeClassMap } from "../../labels/index.js";
import { EVALUATE, type EvaluateProgress, SENSITIVITY } from "../../options/evaluate.js";
import { boolean, text } from "../../options/kinds.js";
import { LOAD } from "../../options/load.js";
import { row, table } from "../../options/table.js";
import { type CliContext, printJson } from "../context.js";
import {
  addFlags,
  type Flags,
  given,
  isGiven,
  long,
  nameOf,
  OUTPUT,
  rowsWithFlags,
  SOURCE,
  sourceOf,
} from "../flags.js";
import { formatMs, formatTable } from "../format.js";
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

const OWN = table({
  tokens: row(text(), "images that the model has not seen, made by tokenize", {
    needed: true,
    flag: "-t, --tokens <folder>",
  }),
  sensitivity: row(
    boolean(),
    "the cost of a subnet at each scale, in each zone, after each bridge; recommends a bridge",
    {
      flag: "--sensitivity",
    },
  ),
  plot: row(text(), "with --sensitivity: draw it, as .svg", { flag: "--plot <file>" }),
});

/** What each mode has alone. */
const DEPTHS = EVALUATE.pick("depths", "bridge");
const SUBNET = SENSITIVITY.pick("depth", "zones", "lossBudget");
const COMMON = EVALUATE.pick("limit", "batch", "classesBy");

export function evaluateCommand(context: CliContext): Command {
  const command = new Command("evaluate")
    .description("held-out cross entropy of a model at every depth")
    .argument("[model]", "a model, as --model");
  return addFlags(command, [SOURCE, OWN, DEPTHS, SUBNET, COMMON, LOAD, OUTPUT])
    .addHelpText("after", EXAMPLES)
    .action((model: string | undefined, flags: Flags) => evaluate(model, flags, context));
}

async function evaluate(path: string | undefined, flags: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const { sensitivity, plot, tokens: folder } = OWN.read(given(OWN, flags));
  const { verbose, json } = given(OUTPUT, flags);
  requireMode(flags, sensitivity ?? false);
  if (plot !== undefined) await proveWritable(plot);
  const source = sourceOf(flags, path);
  const progress = createProgress(context, verbose ?? false);
  try {
    const tokens = await TokenSet.open(folder);
    const model = await context.loadModel(source, { ...given(LOAD, flags), signal: context.signal });
    for (const warning of model.warnings) progress.warn(warning);
    try {
      const common = {
        model,
        tokens,
        signal: context.signal,
        onProgress: meter(progress),
        ...given(COMMON, flags),
      };
      const name = nameOf(source);
      const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
      const tellMap = ({ classes }: Pick<Evaluation, "classes">) => {
        const line = describeClassMap(classes, tokens, known);
        if (line !== null) context.stderr.write(`${line}\n`);
      };
      if (sensitivity) {
        const result = await measureSensitivity({ ...common, ...given(SUBNET, flags) });
        if (plot !== undefined) await writeAtomically(plot, Buffer.from(sensitivityPlot(result)));
        progress.close();
        tellMap(result);
        const facts = { model: name, ...result, plot: plot ?? null, totalMs: performance.now() - begin };
        if (json) printJson(context, facts);
        else context.stdout.write(sensitivityText(facts));
      } else {
        const result = await evaluateModel({ ...common, ...given(DEPTHS, flags) });
        progress.close();
        tellMap(result);
        const facts = { model: name, ...result, totalMs: performance.now() - begin };
        if (json) printJson(context, facts);
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
function requireMode(flags: Flags, sensitivity: boolean): void {
  const others = sensitivity ? [DEPTHS] : [SUBNET, OWN.pick("plot")];
  const row = others.flatMap(rowsWithFlags).find((row) => isGiven(row, flags));
  if (row === undefined) return;
  const found = sensitivity ? "--sensitivity beside it" : "no --sensitivity beside it";
  const expected = sensitivity ? "an evaluation without --sensitivity" : "--sensitivity";
  throw new InvalidOptionError(long(row), found, expected);
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
