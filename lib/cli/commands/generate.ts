/** `nextscale generate`: labels -> image files, with progress, previews and a grid. */

import { Command, Option } from "commander";
import { InvalidOptionError } from "../../errors.js";
import { IMAGE_FORMATS, Image, type ImageFormat } from "../../image/image.js";
import { ambiguities, checkTyped, type Label, resolveLabels } from "../../labels/index.js";
import type { ScaleEvent } from "../../model/events.js";
import type { Model } from "../../model/model.js";
import type { DepthOption } from "../../options/depth.js";
import type { GenerateOptions } from "../../options/generate.js";
import { integer, labelsOf, number, numberOrList, seed } from "../args.js";
import { type Batch, defaultBatchSize, generateInBatches } from "../batches.js";
import { type CliContext, isLive, printJson } from "../context.js";
import { formatMs } from "../format.js";
import { arrange, ImageWriter } from "../image-writer.js";
import { addLoadOptions, type LoadFlags, loadOptionsOf, nameOf, sourceOf } from "../options.js";
import { prepareOutput } from "../output.js";
import { bar, createProgress, type Progress } from "../progress.js";
import { chooseInk, renderImage, roomOf } from "../terminal.js";

const EXAMPLES = `
Examples:
  $ nextscale generate                                   the digits 0 to 9 of the bundled model -> nextscale.png
  $ nextscale generate 3 --seed 42 -o three.webp
  $ nextscale generate 0-9 --count 8 -o digits.png       a grid, one row per label
  $ nextscale generate 3 7 --count 4 -o out/ --grid      one file each: out/3-42-0.png ..., and out/grid.png
  $ nextscale generate 5 --depth 4 --bridge 3 --show     a subnet of 4 blocks after 3 full scales, shown in the terminal
  $ nextscale generate 5 --deadline 100 --json           as deep as 100 ms allow; the depths used are in the JSON
  $ nextscale generate "golden retriever" 22 --var var_d16.pth --tokenizer vae_ch160v4096z32.pth
`;

const LABELS =
  "class numbers, ranges (0-9), names (name:3 for one that is a number), or unconditional (default with the bundled model: 0-9)";

export interface GenerateFlags extends LoadFlags {
  count: number;
  seed?: number | bigint;
  guidance?: number | number[];
  topK?: number;
  topP?: number;
  depth?: number | number[];
  bridge?: number;
  deadline?: number;
  batch?: number;
  output?: string;
  format: ImageFormat;
  quality?: number;
  grid?: boolean;
  columns?: number;
  gap: number;
  show?: boolean;
  verbose?: boolean;
  json?: boolean;
}

export function generateCommand(context: CliContext): Command {
  const command = new Command("generate")
    .description("generate images of classes")
    .argument("[labels...]", LABELS, (word, before: Label[] = []) => [...before, ...labelsOf(word)]);
  return addLoadOptions(command)
    .option("-n, --count <n>", "images per label", integer(1, 65_536), 1)
    .option("-s, --seed <n>", "0 .. 2^64-1 (default: drawn, and printed)", seed)
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
    .option("-b, --bridge <n>", "leading scales at full depth (with --depth or --deadline)", integer(0))
    .addOption(
      new Option("--deadline <ms>", "choose the depth of each scale so that a batch is drawn within this time")
        .argParser(number(0.001))
        .conflicts("depth"),
    )
    .option("--batch <n>", "images at a time (default: what the KV pool holds, at most 16)", integer(1, 4096))
    .option(
      "-o, --output <path>",
      "a file (.png, .jpg, .webp; several images become a grid) or a folder/ (default: nextscale.png, or nothing with --show)",
    )
    .addOption(new Option("--format <format>", "format of the files in a folder").choices(IMAGE_FORMATS).default("png"))
    .option("--quality <n>", "1..100, of jpeg and webp", integer(1, 100))
    .option("--grid", "in a folder, write a grid of all images as well")
    .option("--columns <n>", "columns of the grid", integer(1))
    .option("--gap <pixels>", "space between the images of the grid", integer(0, 4096), 2)
    .option("--show", "show the images in the terminal, and each scale as it comes")
    .option("--verbose", "one plain line per scale instead of a progress bar")
    .option("--json", "print what was made as JSON")
    .addHelpText("after", EXAMPLES)
    .action((labels: Label[], flags: GenerateFlags) => generate(labels, flags, context));
}

async function generate(labels: Label[], flags: GenerateFlags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const source = sourceOf(flags);
  const wanted = wantedLabels(labels, source === undefined);
  const depth = depthOf(flags);
  const output = await prepareOutput(flags.output ?? (flags.show ? null : "nextscale.png"));
  const progress = createProgress(context, flags.verbose ?? false);
  let written = false;
  try {
    const model = await context.loadModel(source, {
      ...loadOptionsOf(flags),
      signal: context.signal,
      onProgress: (fraction) => progress.update(`loading  ${bar(fraction)} ${Math.round(100 * fraction)}%`),
    });
    const loadMs = performance.now() - begin;
    for (const warning of model.warnings) progress.warn(warning);
    try {
      const list = wanted.flatMap((label) => Array<Label>(flags.count).fill(label));
      const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
      checkTyped(wanted, known);
      for (const line of ambiguities(wanted, known)) progress.warn(line);
      const classes = resolveLabels(list, known);
      const writer = new ImageWriter(output, { ...flags, columns: flags.columns ?? arrange(list.length, flags.count) });
      writer.requireRoom(list.length, model.architecture.imageSide);
      const options = generateOptionsOf(flags, depth, context);
      const result = await produce(model, list, options, flags, context, progress, (image, index, seed) => {
        return writer.add(image, {
          index,
          seed,
          classIndex: classes[index]!,
          name: nameOfClass(model, classes[index]!),
        });
      });
      await writer.finish();
      written = writer.files.length > 0;
      progress.close();
      const totalMs = performance.now() - begin;
      const timings = { loadMs, ...result.timings, writeMs: writer.elapsedMs, totalMs };
      report({ model: nameOf(source), opened: model, flags, writer, result, timings }, context);
    } finally {
      await model.dispose();
    }
  } finally {
    progress.close();
    if (!written) await output.abandon();
  }
}

function wantedLabels(labels: Label[], bundled: boolean): Label[] {
  if (labels.length > 0) return labels;
  if (bundled) return labelsOf("0-9");
  throw new InvalidOptionError("labels", "none", 'at least one class number or name, or "unconditional"');
}

function depthOf({ depth, bridge, deadline }: GenerateFlags): DepthOption | undefined {
  if (deadline !== undefined) return { deadlineMs: deadline, ...(bridge !== undefined && { bridge }) };
  if (bridge === undefined) return depth;
  if (typeof depth === "number") return { bridge, subnet: depth };
  throw new InvalidOptionError(
    "depth.bridge",
    "no single --depth beside it",
    "--depth n or --deadline ms for the other scales",
  );
}

function generateOptionsOf(flags: GenerateFlags, depth: DepthOption | undefined, context: CliContext): GenerateOptions {
  const { guidance, topK, topP } = flags;
  const live = flags.show === true && !flags.verbose && isLive(context.stderr, context.env);
  return {
    signal: context.signal,
    preview: live ? "linear" : "none",
    ...(flags.seed !== undefined && { seed: flags.seed }),
    ...(guidance !== undefined && { guidance }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(depth !== undefined && { depth }),
  };
}

function nameOfClass(model: Model, classIndex: number): string {
  if (classIndex === model.architecture.numClasses) return "unconditional";
  return model.classNames[classIndex] ?? String(classIndex);
}

interface ScaleRecord extends Pick<ScaleEvent, "index" | "side" | "depth" | "reason" | "scaleMs" | "elapsedMs"> {
  batch: number;
}

interface Result {
  seed: number | bigint;
  batchSize: number;
  scales: ScaleRecord[];
  poolPeakBytes: number;
  timings: { generateMs: number; decodeMs: number };
}

/** Runs all batches; `keep` gets every image in order. */
async function produce(
  model: Model,
  labels: Label[],
  options: GenerateOptions,
  flags: GenerateFlags,
  context: CliContext,
  progress: Progress,
  keep: (image: Image, index: number, seed: number | bigint) => Promise<void>,
): Promise<Result> {
  const size = flags.batch ?? defaultBatchSize(model, options, labels.length);
  const scales: ScaleRecord[] = [];
  const { stderr, env } = context;
  const onScale = (scale: ScaleEvent, batch: Batch) => {
    const { index, side, depth, reason, scaleMs, elapsedMs } = scale;
    scales.push({ batch: batch.index, index, side, depth, reason, scaleMs, elapsedMs });
    const picture =
      scale.previews && renderImage(Image.grid(scale.previews), chooseInk(stderr, env), roomOf(stderr, 0.6), 32);
    progress.update(progressLine(scale, batch), picture ?? undefined);
    progress.log(plainLine(scale, batch));
  };
  progress.update("waiting for the first scale");
  const { seed, ...timings } = await generateInBatches(model, labels, size, options, {
    onScale,
    onDecode: (batch) => progress.update(`${prefix(batch)}decoding ${batch.count} image${batch.count > 1 ? "s" : ""}`),
    onImage: keep,
  });
  return { seed, batchSize: size, scales, poolPeakBytes: model.pool.peakBytes, timings };
}

function prefix({ index, total }: Batch): string {
  return total > 1 ? `batch ${index + 1}/${total}  ` : "";
}

/** Depth, with the reason when it is not the plan's. */
function depthText({ depth, reason }: ScaleEvent): string {
  return reason === "plan" ? `depth ${depth}` : `depth ${depth} (${reason})`;
}

function progressLine(scale: ScaleEvent, batch: Batch): string {
  const done = `${bar(scale.progress)} ${String(Math.round(100 * scale.progress)).padStart(3)}%`;
  const step = `scale ${scale.index + 1}/${scale.total}  side ${scale.side}  ${depthText(scale)}`;
  return `${prefix(batch)}${done}  ${step}  ${formatMs(scale.scaleMs)}  total ${formatMs(scale.elapsedMs)}`;
}

function plainLine(scale: ScaleEvent, batch: Batch): string {
  return `${prefix(batch)}scale ${scale.index + 1}/${scale.total}  side ${scale.side}  ${depthText(scale)}  ${formatMs(scale.scaleMs)}`;
}

interface Report {
  model: string;
  opened: Model;
  flags: GenerateFlags;
  writer: ImageWriter;
  result: Result;
  timings: Record<string, number>;
}

function report({ model, opened, flags, writer, result, timings }: Report, context: CliContext): void {
  const { stdout, stderr, env } = context;
  if (flags.show) {
    const stream = flags.json ? stderr : stdout;
    for (const line of renderImage(writer.grid(), chooseInk(stream, env), roomOf(stream))) stream.write(`${line}\n`);
  }
  if (flags.json) {
    const { device, deviceReason, threads } = opened;
    const { seed, batchSize, scales, poolPeakBytes } = result;
    const { images, gridPath: grid } = writer;
    printJson(context, {
      model,
      device,
      deviceReason,
      threads,
      seed,
      batchSize,
      images,
      grid,
      scales,
      poolPeakBytes,
      timings,
    });
    return;
  }
  const count = `${writer.images.length} image${writer.images.length > 1 ? "s" : ""}`;
  const facts = `seed ${result.seed}, ${formatMs(timings.totalMs!)}`;
  const many = writer.files.length > 3;
  if (many) stdout.write(`${flags.output}: ${writer.files.length} files, ${count}, ${facts}\n`);
  else if (writer.files.length > 0) stdout.write(`${writer.files.join(", ")}: ${count}, ${facts}\n`);
  else stdout.write(`${count}, ${facts}\n`);
}
