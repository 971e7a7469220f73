/** `nextscale tokenize`: a folder of images by class -> a token set, with progress, resumable. */

import { Command, Option } from "commander";
import { type TokenizeResult, tokenizeImages } from "../../data/index.js";
import { InvalidOptionError } from "../../errors.js";
import { loadTokenizer } from "../../model/load.js";
import type { TokenizerOptions, TokenizerSource } from "../../options/load.js";
import type { Crop, Fit, TokenizeProgress } from "../../options/tokenize.js";
import { integer, list, seed } from "../args.js";
import { type CliContext, printJson } from "../context.js";
import { formatBytes, formatMs } from "../format.js";
import { bar, createProgress, type Progress } from "../progress.js";

const EXAMPLES = `
Examples:
  $ nextscale tokenize images/ --model d16.safetensors -o tokens/
  $ nextscale tokenize images/ --model d16.safetensors -o tokens/ --resize 288 --crop random --flip
  $ nextscale tokenize photos/ --tokenizer vae.pth --sides 1,2,3,4,6,8 -o tokens/      a tokenizer that has no transformer yet
  $ nextscale tokenize mnist/train --fit pad -o digits-tokens/      28 x 28 into 32 x 32, black around, with the bundled model

images/ holds one folder per class; the sorted names of the folders are the classes. Ctrl-C keeps the finished shards, and the
same command goes on after them.
`;

interface TokenizeFlags {
  model?: string;
  var?: string;
  tokenizer?: string;
  sides?: number[];
  device?: TokenizerOptions["device"];
  threads?: number;
  output: string;
  fit: Fit;
  resize?: number;
  crop: Crop;
  flip?: boolean;
  seed: number | bigint;
  maxPerClass?: number;
  shardSize?: number;
  batch?: number;
  overwrite?: boolean;
  verbose?: boolean;
  json?: boolean;
}

export function tokenizeCommand(context: CliContext): Command {
  const command = new Command("tokenize")
    .description("turn a folder of images, one sub-folder per class, into tokens for training")
    .argument("<images>", "the folder");
  return command
    .option("-m, --model <file>", "a model, or a tokenizer alone (default: the bundled digits)")
    .addOption(new Option("--tokenizer <file>", "the tokenizer of a PyTorch pair").conflicts("model"))
    .addOption(new Option("--var <file>", "the transformer of the pair, which tells the sides").conflicts("model"))
    .option("--sides <list>", "sides of the scales, for a tokenizer alone", list(integer(1, 1024)))
    .option("--device <device>", "auto, cpu, cuda or cuda:N")
    .option("--threads <n>", "worker threads (default: all cores)", integer(1, 1024))
    .requiredOption("-o, --output <folder>", "where the shards go; made when it is missing")
    .addOption(
      new Option("--fit <fit>", "cover: scale and crop; contain: scale, black around; fill: squeeze; pad: never scale")
        .choices(["cover", "contain", "fill", "pad"])
        .default("cover"),
    )
    .option(
      "--resize <pixels>",
      "length of the shorter side before cropping (default: the tokenizer's side)",
      integer(1),
    )
    .addOption(new Option("--crop <part>", "the part that stays").choices(["centre", "random"]).default("centre"))
    .option("--flip", "every image a second time, mirrored")
    .option("-s, --seed <n>", "of random crops, 0 .. 2^64-1", seed, 0)
    .option("--max-per-class <n>", "only the first n files of each class", integer(1))
    .option("--shard-size <n>", "files per shard (default: 1024)", integer(1, 2 ** 20))
    .option("--batch <n>", "images that are encoded at a time (default: 32)", integer(1, 4096))
    .option("--overwrite", "start anew in a folder that holds another token set")
    .option("--verbose", "one plain line per tenth instead of a progress bar")
    .option("--json", "print what was made as JSON")
    .addHelpText("after", EXAMPLES)
    .action((images: string, flags: TokenizeFlags) => tokenize(images, flags, context));
}

async function tokenize(images: string, flags: TokenizeFlags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const source = sourceOf(flags);
  const progress = createProgress(context, flags.verbose ?? false);
  try {
    const { device, threads, sides } = flags;
    const tokenizer = await loadTokenizer(source, {
      ...(device !== undefined && { device }),
      ...(threads !== undefined && { threads }),
      ...(sides !== undefined && { sides }),
      signal: context.signal,
    });
    for (const warning of tokenizer.warnings) progress.warn(warning);
    try {
      const result = await tokenizeImages({
        ...settingsOf(images, flags),
        model: tokenizer,
        onProgress: meter(progress),
        signal: context.signal,
      });
      progress.close();
      report(nameOf(flags), result, performance.now() - begin, flags, context);
    } finally {
      await tokenizer.dispose();
    }
  } finally {
    progress.close();
  }
}

function settingsOf(images: string, flags: TokenizeFlags) {
  const { output, fit, resize, crop, flip, seed: seedOfCrops, maxPerClass, shardSize, batch, overwrite } = flags;
  return {
    images,
    output,
    fit,
    crop,
    seed: seedOfCrops,
    ...(resize !== undefined && { resize }),
    ...(flip !== undefined && { flip }),
    ...(maxPerClass !== undefined && { maxPerClass }),
    ...(shardSize !== undefined && { shardSize }),
    ...(batch !== undefined && { batch }),
    ...(overwrite !== undefined && { overwrite }),
  };
}

/** `undefined` is the bundled model. */
function sourceOf({ model, var: transformer, tokenizer }: TokenizeFlags): TokenizerSource | undefined {
  if (model !== undefined) return model;
  if (tokenizer !== undefined) return { tokenizer, ...(transformer !== undefined && { var: transformer }) };
  if (transformer === undefined) return undefined;
  throw new InvalidOptionError("--tokenizer", "only --var", "the tokenizer of the pair");
}

function nameOf({ model, var: transformer, tokenizer }: TokenizeFlags): string {
  const pair = [transformer, tokenizer].filter((path) => path !== undefined).join(" + ");
  return model ?? (pair === "" ? "digits" : pair);
}

/** `██████░░  31%  18,592 of 60,000  412/s  1 min 40 s left  2 skipped` */
function meter(progress: Progress): (state: TokenizeProgress) => void {
  const begin = performance.now();
  let shownAt = 0;
  let tenth = 0;
  return ({ done, total, resumed, skipped }) => {
    const now = performance.now();
    const fraction = total === 0 ? 1 : done / total;
    if (Math.floor(10 * fraction) > tenth) {
      tenth = Math.floor(10 * fraction);
      progress.log(`${10 * tenth}%  ${done} of ${total}`);
    }
    if (now - shownAt < 100 && done < total) return;
    shownAt = now;
    const rate = (1000 * (done - resumed)) / Math.max(1, now - begin); // files per second of this run
    const left = rate > 0 ? `  ${formatMs((1000 * (total - done)) / rate)} left` : "";
    const lost = skipped > 0 ? `  ${skipped} skipped` : "";
    const percent = String(Math.floor(100 * fraction)).padStart(3);
    progress.update(
      `${bar(fraction)} ${percent}%  ${done} of ${total}  ${rate.toFixed(rate < 10 ? 1 : 0)}/s${left}${lost}`,
    );
  };
}

/** Skipped files to print by name; all of them are in tokens.json and in --json. */
const LISTED = 10;

function report(
  model: string,
  result: TokenizeResult,
  totalMs: number,
  flags: TokenizeFlags,
  context: CliContext,
): void {
  const { stdout, stderr } = context;
  const { output, images, resumed, classes, shards, bytes, skipped, strayFiles } = result;
  for (const { path, reason } of skipped.slice(0, LISTED)) stderr.write(`skipped ${path}: ${reason}\n`);
  if (skipped.length > LISTED) {
    stderr.write(`skipped ${skipped.length - LISTED} more files; all of them are listed in ${output}/tokens.json\n`);
  }
  if (strayFiles.length > 0) {
    stderr.write(`warning: ${strayFiles.length} files beside the class folders were left out (${strayFiles[0]} ...)\n`);
  }
  if (flags.json) {
    printJson(context, { model, ...result, totalMs });
    return;
  }
  const count = `${images} image${images > 1 ? "s" : ""} of ${classes.length} class${classes.length > 1 ? "es" : ""}`;
  const size = `${shards} shard${shards > 1 ? "s" : ""}, ${formatBytes(bytes)}`;
  const lost = skipped.length > 0 ? `, ${skipped.length} file${skipped.length > 1 ? "s" : ""} skipped` : "";
  const before = resumed > 0 ? `, ${resumed} of them by an earlier run` : "";
  stdout.write(`${output}: ${count}${before}, ${size}${lost}, ${formatMs(totalMs)}\n`);
}
