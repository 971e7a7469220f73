/** `nextscale sample`: many images of every class as PNG files or one `.npz`, sharded and resumable. */

import { Command, InvalidArgumentError, Option } from "commander";
import { InvalidOptionError } from "../../errors.js";
import { ambiguities, checkTyped, type Label } from "../../labels/index.js";
import type { DepthOption } from "../../options/depth.js";
import { SAMPLE_ORDERS, type SampleOrder, type SampleProgress, type SampleShard } from "../../options/sample.js";
import { type SampleResult, sampleModel } from "../../sample/index.js";
import { integer, labelsOf, number, numberOrList, seed } from "../args.js";
import { type CliContext, printJson } from "../context.js";
import { formatMs } from "../format.js";
import { modelId } from "../model-id.js";
import { addLoadOptions, type LoadFlags, loadOptionsOf, nameOf, sourceOf } from "../options.js";
import { bar, createProgress, type Progress } from "../progress.js";

const EXAMPLES = `
Examples:
  $ nextscale sample d16.safetensors --per-class 50 -o samples.npz       arr_0 uint8 [50000, 256, 256, 3], arr_1 the classes
  $ nextscale sample d16.safetensors --per-class 50 -o samples/          samples/000-000000.png ...
  $ nextscale sample --per-class 100 --classes 0-4 --depth 4 --bridge 3 -o digits-d4/
  $ nextscale sample d16.safetensors --per-class 50 -o samples.npz --shard 1/4     a quarter of them; likewise 2/4, 3/4 and 4/4

Each image depends on the seed, its class and its number alone: shards, batches and interruptions change nothing. What is
there is not made again. An .npz is put together by the run that makes the last missing image.
`;

interface SampleFlags extends LoadFlags {
  output: string;
  perClass: number;
  classes?: Label[];
  seed: number | bigint;
  guidance?: number | number[];
  topK?: number;
  topP?: number;
  depth?: number | number[];
  bridge?: number;
  order?: SampleOrder;
  shard?: SampleShard;
  batch?: number;
  overwrite?: boolean;
  verbose?: boolean;
  json?: boolean;
}

export function sampleCommand(context: CliContext): Command {
  const command = new Command("sample")
    .description("draw many images of every class, for measuring a model")
    .argument("[model]", "a model, as --model");
  return addLoadOptions(command)
    .requiredOption("-o, --output <path>", "a folder for PNG files, or a file that ends in .npz")
    .requiredOption("-n, --per-class <n>", "images of each class", integer(1))
    .option("--classes <list>", "numbers, ranges and names with commas between them (default: all)", classList)
    .option("-s, --seed <n>", "0 .. 2^64-1", seed, 0)
    .option(
      "-g, --guidance <t>",
      "classifier-free guidance of the last scale, or one value per scale",
      numberOrList(number(0)),
    )
    .option("--top-k <n>", "draw from the n best tokens only; 0 = off, 1 = greedy", integer(0))
    .option("--top-p <p>", "draw from the smallest set with this probability; 0 = off", number(0, 1))
    .option(
      "-d, --depth <n>",
      "blocks that run after the bridge, or one number per scale (default: all)",
      numberOrList(integer(1)),
    )
    .option("-b, --bridge <n>", "leading scales at full depth (with --depth)", integer(0))
    .addOption(
      new Option("--order <order>", "of an .npz: drawn from the seed (default), or class by class").choices(
        SAMPLE_ORDERS,
      ),
    )
    .addOption(new Option("--shard <i/n>", "make the i-th of n equal parts, 1/n to n/n").argParser(shardOf))
    .option("--batch <n>", "images at a time (default: what the KV pool holds, at most 32)", integer(1, 4096))
    .option("--overwrite", "start anew where images of other settings are")
    .option("--verbose", "one plain line per tenth instead of a progress bar")
    .option("--json", "print what was made as JSON")
    .addHelpText("after", EXAMPLES)
    .action((model: string | undefined, flags: SampleFlags) => sample(model, flags, context));
}

/** `2/4` is the second of four. */
function shardOf(text: string): SampleShard {
  const match = /^(\d{1,5})\/(\d{1,5})$/.exec(text);
  const [index, of] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || index < 1 || index > of) throw new InvalidArgumentError("Expected i/n with i from 1 to n.");
  return { index: index - 1, of };
}

function classList(text: string): Label[] {
  return text.split(",").flatMap((word) => labelsOf(word.trim()));
}

async function sample(path: string | undefined, flags: SampleFlags, context: CliContext): Promise<void> {
  const begin = performance.now();
  if (path !== undefined && flags.model !== undefined) {
    throw new InvalidOptionError("--model", "a model before it as well", "one of the two");
  }
  const source = sourceOf({ ...flags, ...(path !== undefined && { model: path }) });
  const depth = depthOf(flags);
  const progress = createProgress(context, flags.verbose ?? false);
  try {
    const id = await modelId(source);
    const model = await context.loadModel(source, { ...loadOptionsOf(flags), signal: context.signal });
    for (const warning of model.warnings) progress.warn(warning);
    try {
      const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
      checkTyped(flags.classes ?? [], known);
      for (const line of ambiguities(flags.classes ?? [], known)) progress.warn(line);
      const result = await sampleModel({
        model,
        modelId: id,
        output: flags.output,
        perClass: flags.perClass,
        seed: flags.seed,
        ...optionalOf(flags),
        ...(depth !== undefined && { depth }),
        onProgress: meter(progress),
        signal: context.signal,
      });
      progress.close();
      report(nameOf(source), result, flags, performance.now() - begin, context);
    } finally {
      await model.dispose();
    }
  } finally {
    progress.close();
  }
}

function optionalOf({ classes, guidance, topK, topP, order, shard, batch, overwrite }: SampleFlags) {
  return {
    ...(classes !== undefined && { classes }),
    ...(guidance !== undefined && { guidance }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(order !== undefined && { order }),
    ...(shard !== undefined && { shard }),
    ...(batch !== undefined && { batch }),
    ...(overwrite !== undefined && { overwrite }),
  };
}

function depthOf({ depth, bridge }: SampleFlags): Exclude<DepthOption, { deadlineMs: number }> | undefined {
  if (bridge === undefined) return depth;
  if (typeof depth === "number") return { bridge, subnet: depth };
  throw new InvalidOptionError("depth.bridge", "no single --depth beside it", "--depth n for the other scales");
}

function meter(progress: Progress): (state: SampleProgress) => void {
  const begin = performance.now();
  let tenth = 0;
  return ({ done, total, resumed }) => {
    const fraction = total === 0 ? 1 : done / total;
    const rate = (1000 * (done - resumed)) / Math.max(1, performance.now() - begin); // images per second of this run
    const left = rate > 0 ? `  ${formatMs((1000 * (total - done)) / rate)} left` : "";
    const percent = String(Math.floor(100 * fraction)).padStart(3);
    progress.update(`${bar(fraction)} ${percent}%  ${done} of ${total} images  ${rate.toFixed(1)}/s${left}`);
    if (Math.floor(10 * fraction) === tenth) return;
    tenth = Math.floor(10 * fraction);
    progress.log(`${10 * tenth}%  ${done} of ${total} images`);
  };
}

function report(model: string, result: SampleResult, flags: SampleFlags, totalMs: number, context: CliContext): void {
  const { output, total, images, resumed, complete, seed: usedSeed, format } = result;
  if (flags.json) {
    const shard = flags.shard === undefined ? null : `${flags.shard.index + 1}/${flags.shard.of}`;
    printJson(context, { model, ...result, shard, totalMs });
    return;
  }
  const before = resumed > 0 ? `, ${resumed} of them by an earlier run` : "";
  const whole = complete ? "" : format === "npz" ? ` of ${total}; the file follows with the last one` : ` of ${total}`;
  context.stdout.write(
    `${output}: ${images} image${images === 1 ? "" : "s"}${whole}${before}, seed ${usedSeed}, ${formatMs(totalMs)}\n`,
  );
}
