/** `nextscale generate`: labels -> image files, with progress, previews and a grid. */

import { Command } from "commander";
import { InvalidOptionError } from "../../errors.js";
import { IMAGE_FORMATS, Image } from "../../image/image.js";
import { ambiguities, checkTyped, type Label, resolveLabels } from "../../labels/index.js";
import type { ScaleEvent } from "../../model/events.js";
import type { Model } from "../../model/model.js";
import { GENERATE, type GenerateOptions } from "../../options/generate.js";
import { boolean, integer, oneOf, text } from "../../options/kinds.js";
import { wordsToLabels } from "../../options/labels.js";
import { LOAD } from "../../options/load.js";
import { type Resolved, row, table } from "../../options/table.js";
import { type Batch, defaultBatchSize, generateInBatches } from "../batches.js";
import { type CliContext, isLive, printJson } from "../context.js";
import { addFlags, asArgument, DEPTH, depthOf, type Flags, given, nameOf, OUTPUT, SOURCE, sourceOf } from "../flags.js";
import { formatMs } from "../format.js";
import { arrange, ImageWriter } from "../image-writer.js";
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

const OWN = table({
  count: row(integer(1, 65_536), "images per label", { default: 1, flag: "-n, --count <n>" }),
  batch: row(integer(1, 4096), "images at a time; it changes the speed, never the images", {
    otherwise: "what the KV pool holds, at most 16",
    flag: "--batch <n>",
  }),
  output: row(text(), "a file (.png, .jpg, .webp; several images become a grid) or a folder/", {
    otherwise: "nextscale.png, or nothing with --show",
    flag: "-o, --output <path>",
  }),
  format: row(oneOf(...IMAGE_FORMATS), "format of the files in a folder", {
    default: "png",
    flag: "--format <format>",
  }),
  quality: row(integer(1, 100), "1..100, of jpeg and webp", { flag: "--quality <n>" }),
  grid: row(boolean(), "in a folder, write a grid of all images as well", { flag: "--grid" }),
  columns: row(integer(1), "columns of the grid", {
    otherwise: "a row per label when there are several images of each",
    flag: "--columns <n>",
  }),
  gap: row(integer(0, 4096), "pixels between the images of the grid", { default: 2, flag: "--gap <pixels>" }),
  show: row(boolean(), "show the images in the terminal, and each scale as it comes", { flag: "--show" }),
});

type OwnFlags = Resolved<typeof OWN> & { verbose?: boolean | undefined; json?: boolean | undefined };

export function generateCommand(context: CliContext): Command {
  const command = new Command("generate")
    .description("generate images of classes")
    .argument("[labels...]", LABELS, (word, before: Label[] = []) => [
      ...before,
      ...asArgument(() => wordsToLabels("label", [word])),
    ]);
  return addFlags(command, [SOURCE, GENERATE, DEPTH.pick("bridge", "deadline"), OWN, LOAD, OUTPUT])
    .addHelpText("after", EXAMPLES)
    .action((labels: Label[], flags: Flags) => generate(labels, flags, context));
}

async function generate(labels: Label[], typed: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const flags: OwnFlags = { ...OWN.read(given(OWN, typed)), ...given(OUTPUT, typed) };
  const source = sourceOf(typed);
  const wanted = wantedLabels(labels, source === undefined);
  const depth = depthOf(typed);
  const output = await prepareOutput(flags.output ?? (flags.show ? null : "nextscale.png"));
  const progress = createProgress(context, flags.verbose ?? false);
  let written = false;
  try {
    const model = await context.loadModel(source, {
      ...given(LOAD, typed),
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
      const live = flags.show === true && !flags.verbose && isLive(context.stderr, context.env);
      const options: GenerateOptions = {
        ...given(GENERATE, typed),
        depth,
        preview: live ? "linear" : "none",
        signal: context.signal,
      };
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
  if (bundled) return wordsToLabels("label", ["0-9"]);
  throw new InvalidOptionError("labels", "none", 'at least one class number or name, or "unconditional"');
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
  flags: OwnFlags,
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
  flags: OwnFlags;
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
