/** `nextscale tokenize`: a folder of images by class -> a token set, with progress, resumable. */

import { Command } from "commander";
import { type TokenizeResult, tokenizeImages } from "../../data/index.js";
import { InvalidOptionError } from "../../errors.js";
import { loadTokenizer } from "../../model/load.js";
import { text } from "../../options/kinds.js";
import { TOKENIZER } from "../../options/load.js";
import { row, table } from "../../options/table.js";
import { TOKENIZE, type TokenizeProgress, type TokenizeSettings } from "../../options/tokenize.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, type Flags, given, nameOf, OUTPUT, SOURCE } from "../flags.js";
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

const WHERE = table({
  model: row(text(), "a model, or a tokenizer alone", {
    otherwise: "the bundled digits",
    flag: SOURCE.rows.model.flag,
  }),
  tokenizer: row(text(), "the tokenizer of a PyTorch pair", { flag: SOURCE.rows.tokenizer.flag, conflicts: "model" }),
  var: row(text(), "the transformer of the pair, which tells the sides", {
    flag: SOURCE.rows.var.flag,
    conflicts: "model",
  }),
});

export function tokenizeCommand(context: CliContext): Command {
  const command = new Command("tokenize")
    .description("turn a folder of images, one sub-folder per class, into tokens for training")
    .argument("<images>", "the folder");
  return addFlags(command, [WHERE, TOKENIZE, TOKENIZER, OUTPUT])
    .addHelpText("after", EXAMPLES)
    .action((images: string, flags: Flags) => tokenize(images, flags, context));
}

async function tokenize(images: string, flags: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const source = tokenizerOf(flags);
  const progress = createProgress(context, given(OUTPUT, flags).verbose ?? false);
  try {
    const tokenizer = await loadTokenizer(source, {
      ...given(TOKENIZER, flags),
      signal: context.signal,
    });
    for (const warning of tokenizer.warnings) progress.warn(warning);
    try {
      const result = await tokenizeImages({
        ...(given(TOKENIZE, flags) as TokenizeSettings),
        images,
        model: tokenizer,
        onProgress: meter(progress),
        signal: context.signal,
      });
      progress.close();
      report(nameOf(source), result, performance.now() - begin, flags, context);
    } finally {
      await tokenizer.dispose();
    }
  } finally {
    progress.close();
  }
}

/** `undefined` is the bundled model. */
function tokenizerOf(flags: Flags): string | { var?: string; tokenizer: string } | undefined {
  const { model, var: transformer, tokenizer } = given(WHERE, flags);
  if (model !== undefined) return model;
  if (tokenizer !== undefined) return { tokenizer, ...(transformer !== undefined && { var: transformer }) };
  if (transformer === undefined) return undefined;
  throw new InvalidOptionError("--tokenizer", "only --var", "the tokenizer of the pair");
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

function report(model: string, result: TokenizeResult, totalMs: number, flags: Flags, context: CliContext): void {
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
