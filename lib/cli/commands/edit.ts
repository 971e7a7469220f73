/** `nextscale edit`: part of a picture stays, the rest is drawn. */

import { Command } from "commander";
import { IMAGE_FORMATS } from "../../image/image.js";
import { ambiguities, checkTyped, type Label } from "../../labels/index.js";
import type { EditGeneration, Variant } from "../../model/edit-generation.js";
import { EDIT, type EditOptions, type Rect, rectOf } from "../../options/edit.js";
import { boolean, checkedBy, integer, oneOf, text } from "../../options/kinds.js";
import { wordsToLabels } from "../../options/labels.js";
import { LOAD } from "../../options/load.js";
import { row, table } from "../../options/table.js";
import { type CliContext, isLive, printJson } from "../context.js";
import { addFlags, asArgument, DEPTH, depthOf, type Flags, given, nameOf, OUTPUT, SOURCE, sourceOf } from "../flags.js";
import { formatMs } from "../format.js";
import { arrange, ImageWriter } from "../image-writer.js";
import { prepareOutput } from "../output.js";
import { bar, createProgress } from "../progress.js";
import { chooseInk, renderImage, roomOf } from "../terminal.js";

const EXAMPLES = `
Examples:
  $ nextscale edit three.png --rect 8,16,16,16 8 -o eight.png       the lower middle anew, as of an 8
  $ nextscale edit photo.png --mask mask.png "golden retriever"     what is transparent in the mask (or black) is drawn
  $ nextscale edit three.png 3 --strength 0.5 --variants 4 -o out/  variations that keep the composition, best first
  $ nextscale edit three.png 3 --expand 8                           the picture, smaller, with something around it
`;

const OWN = table({
  rect: row(
    checkedBy<Rect>(
      null,
      (_, value) => value as Rect,
      (option, words) => rectOf(option, words),
    ),
    "draw within x,y,width,height (pixels of the picture) instead of a mask",
    { flag: "--rect <x,y,w,h>", conflicts: "mask" },
  ),
  output: row(text(), "a file (.png, .jpg, .webp; several variants become a grid) or a folder/", {
    otherwise: "edited.png, or nothing with --show",
    flag: "-o, --output <path>",
  }),
  format: row(oneOf(...IMAGE_FORMATS), "format of the files in a folder", {
    default: "png",
    flag: "--format <format>",
  }),
  quality: row(integer(1, 100), "1..100, of jpeg and webp", { flag: "--quality <n>" }),
  gap: row(integer(0, 4096), "pixels between the images of the grid", { default: 2, flag: "--gap <pixels>" }),
  show: row(boolean(), "show the result in the terminal, and each scale as it comes", { flag: "--show" }),
});

export function editCommand(context: CliContext): Command {
  const command = new Command("edit")
    .description("draw part of a picture anew")
    .argument("<image>", "the picture: any image file")
    .argument("[label]", "class number, name, or unconditional (default): what is drawn", (word) =>
      asArgument(() => wordsToLabels("label", [word])),
    );
  return addFlags(command, [SOURCE, EDIT, DEPTH.pick("bridge", "deadline"), OWN, LOAD, OUTPUT], true)
    .addHelpText("after", EXAMPLES)
    .action((image: string, labels: Label[] | undefined, flags: Flags) => edit(image, labels?.[0], flags, context));
}

async function edit(image: string, label: Label | undefined, typed: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const flags = { ...OWN.read(given(OWN, typed)), ...given(OUTPUT, typed) };
  const source = sourceOf(typed);
  const depth = depthOf(typed);
  const output = await prepareOutput(flags.output ?? (flags.show ? null : "edited.png"));
  const progress = createProgress(context, flags.verbose ?? false);
  let written = false;
  try {
    const model = await context.loadModel(source, {
      ...given(LOAD, typed),
      signal: context.signal,
      onProgress: (fraction) => progress.update(`loading  ${bar(fraction)} ${Math.round(100 * fraction)}%`),
    });
    for (const warning of model.warnings) progress.warn(warning);
    try {
      if (label !== undefined) {
        const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
        checkTyped([label], known);
        for (const line of ambiguities([label], known)) progress.warn(line);
      }
      const live = flags.show === true && !flags.verbose && isLive(context.stderr, context.env);
      const generation = model.edit({
        ...(given(EDIT, typed) as Partial<EditOptions>),
        image,
        ...(flags.rect !== undefined && { mask: flags.rect }),
        ...(label !== undefined && { label }),
        ...(depth !== undefined && { depth }),
        preview: live ? "linear" : "none",
        signal: context.signal,
      });
      const columns = arrange(generation.count, 1);
      const writer = new ImageWriter(output, { ...flags, columns });
      writer.requireRoom(generation.count, model.architecture.imageSide);
      for await (const scale of generation) {
        const ink = chooseInk(context.stderr, context.env);
        const shown = scale.preview && renderImage(scale.preview, ink, roomOf(context.stderr, 0.6), 32);
        const line = `scale ${scale.index + 1}/${scale.total}  side ${scale.side}  depth ${scale.depth}  ${formatMs(scale.scaleMs)}`;
        progress.update(`${bar(scale.progress)}  ${line}`, shown ?? undefined);
        progress.log(line);
      }
      for (const note of await generation.notes()) progress.warn(note);
      progress.update("decoding");
      const variants = await write(generation, writer, model.classNames[label as number] ?? String(label ?? "edit"));
      written = writer.files.length > 0;
      progress.close();
      report(nameOf(source), generation, variants, writer, flags, performance.now() - begin, context);
    } finally {
      await model.dispose();
    }
  } finally {
    progress.close();
    if (!written) await output.abandon();
  }
}

async function write(generation: EditGeneration, writer: ImageWriter, name: string): Promise<Variant[]> {
  const [images, variants] = await Promise.all([generation.images(), generation.ranking()]);
  for (const [place, image] of images.entries()) {
    await writer.add(image, { index: place, seed: generation.seed, classIndex: -1, name });
  }
  await writer.finish();
  return variants;
}

function report(
  model: string,
  generation: EditGeneration,
  variants: readonly Variant[],
  writer: ImageWriter,
  flags: { show?: unknown; json?: boolean | undefined },
  totalMs: number,
  context: CliContext,
): void {
  const { stdout, stderr, env } = context;
  if (flags.show) {
    const stream = flags.json ? stderr : stdout;
    for (const line of renderImage(writer.grid(), chooseInk(stream, env), roomOf(stream))) stream.write(`${line}\n`);
  }
  const { seed } = generation;
  if (flags.json) {
    const images = variants.map(({ index, seamLoss }, place) => {
      return { path: writer.images[place]!.path, variant: index, seamLoss: Number.isNaN(seamLoss) ? null : seamLoss };
    });
    printJson(context, { model, seed, images, grid: writer.gridPath, totalMs });
    return;
  }
  const count = `${variants.length} variant${variants.length > 1 ? "s" : ""}`;
  stdout.write(
    `${writer.files.length > 0 ? `${writer.files.join(", ")}: ` : ""}${count}, seed ${seed}, ${formatMs(totalMs)}\n`,
  );
}
