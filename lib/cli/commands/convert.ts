/** `nextscale convert`: any checkpoint -> one safetensors file, streamed. */

import { Command } from "commander";
import { type CheckpointInfo, convertCheckpoint, openCheckpoint } from "../../checkpoint/index.js";
import { InvalidOptionError, NextscaleError } from "../../errors.js";
import { duplicates, readLabelFile } from "../../labels/index.js";
import { machineMemory } from "../../native/machine.js";
import { CONVERT, type ConvertOptions, type OpenOptions } from "../../options/checkpoint.js";
import { boolean, text } from "../../options/kinds.js";
import type { ModelSource } from "../../options/load.js";
import { row, table } from "../../options/table.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, type Flags, given, OUTPUT } from "../flags.js";
import { formatBytes, formatMs } from "../format.js";
import { proveWritable } from "../output.js";
import { bar, createProgress, type Progress } from "../progress.js";

const EXAMPLES = `
Examples:
  $ nextscale convert var_d16.pth vae_ch160v4096z32.pth -o d16.safetensors
  $ nextscale convert var_d16.pth vae_ch160v4096z32.pth -o d16-bf16.safetensors --dtype bf16 --labels imagenet.txt
  $ nextscale convert ar-ckpt-best.pth -o mine.safetensors --name "my birds" --note license=MIT
  $ nextscale convert d16.safetensors -o half.safetensors --dtype f16

The order of the two files does not matter: what they hold tells which is which.
`;

const OWN = table({
  labels: row(text(), "class names: one per line, a JSON or Python list or table, synset_words.txt, or CSV", {
    flag: "--labels <file>",
  }),
  preview: row(boolean(), "fit the linear preview and keep it in the file", {
    otherwise: "for models of up to 2 GiB that fit into free memory",
    flag: "--preview",
  }),
  noPreview: row(boolean(), "do not; it is then fitted at its first use", { flag: "--no-preview" }),
});

export function convertCommand(context: CliContext): Command {
  const command = new Command("convert")
    .description("write any checkpoint as one safetensors file that opens at once")
    .argument("<var>", "the transformer (.pth, .safetensors), or a file that holds both parts")
    .argument("[tokenizer]", "the tokenizer");
  return addFlags(command, [CONVERT, OWN, OUTPUT])
    .addHelpText("after", EXAMPLES)
    .action((transformer: string, tokenizer: string | undefined, flags: Flags) =>
      convert(tokenizer === undefined ? [transformer] : [transformer, tokenizer], flags, context),
    );
}

async function convert(paths: string[], flags: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const { signal } = context;
  const options = given(CONVERT, flags) as Omit<ConvertOptions, "source"> & { output: string };
  const { output, weights, heads, sides, dtype } = options;
  const { labels: labelFile, preview } = given(OWN, flags);
  const { verbose, json } = given(OUTPUT, flags);
  if (!/\.safetensors$/i.test(output)) {
    throw new InvalidOptionError("output", JSON.stringify(output), "a name that ends in .safetensors");
  }
  await proveWritable(output);
  const labels = labelFile === undefined ? undefined : await readLabelFile(labelFile, "--labels");
  const progress = createProgress(context, verbose ?? false);
  try {
    const info = await openCheckpoint(paths, { weights, heads, sides, signal });
    if (labels !== undefined && labels.length !== info.config.numClasses) {
      const expected = `${info.config.numClasses} names, one for each class`;
      throw new InvalidOptionError("--labels", `${labels.length} in ${labelFile}`, expected);
    }
    progress.log(`${paths.join(" + ")}: ${formatBytes(info.bytes)} of weights`);
    for (const warning of info.warnings) progress.warn(warning);
    for (const { name, classes } of duplicates(labels ?? [])) {
      progress.warn(
        `${JSON.stringify(name)} names classes ${classes.join(" and ")}: only their numbers tell them apart`,
      );
    }
    const previewMatrix = await previewOf(info, paths, { preview, weights, heads, sides }, progress, context);
    const { bytes } = await convertCheckpoint({
      source: paths,
      ...options,
      signal,
      ...(labels !== undefined && { labels }),
      ...(previewMatrix !== null && { previewMatrix }),
      onProgress: speedometer(info.bytes, progress),
    });
    progress.close();
    const result = {
      path: output,
      bytes,
      dtype: dtype ?? null,
      parameters: info.numParameters,
      preview: hasPreview(info, previewMatrix),
    };
    const totalMs = performance.now() - begin;
    if (json) printJson(context, { ...result, totalMs });
    else context.stdout.write(`${output}: ${formatBytes(bytes)}, ${dtype ?? "formats kept"}, ${formatMs(totalMs)}\n`);
  } finally {
    progress.close();
  }
}

function hasPreview(info: CheckpointInfo, fitted: Float32Array | null): boolean {
  return fitted !== null || info.previewMatrix !== undefined;
}

const MAX_PREVIEW_BYTES = 2 * 2 ** 30;

/** The fit needs the opened model, a conversion does not: large ones are not opened unless asked for. */
async function previewOf(
  info: CheckpointInfo,
  paths: string[],
  { preview, weights, heads, sides }: OpenOptions & { preview: boolean | undefined },
  progress: Progress,
  context: CliContext,
): Promise<Float32Array | null> {
  const affordable = info.bytes <= MAX_PREVIEW_BYTES && 1.5 * info.bytes < machineMemory().availableBytes;
  if (preview === false || (preview === undefined && (info.previewMatrix !== undefined || !affordable))) return null;
  const { signal } = context;
  try {
    progress.update("fitting the linear preview: opening the model");
    const model = await context.loadModel(sourceOf(info, paths), {
      weights,
      heads,
      sides,
      signal,
    });
    const stop = () => void model.dispose(); // ends the fit: it takes no signal
    signal.addEventListener("abort", stop, { once: true });
    try {
      progress.update("fitting the linear preview");
      return await model.fitPreview();
    } finally {
      signal.removeEventListener("abort", stop);
      await model.dispose();
    }
  } catch (error) {
    const missing = error instanceof NextscaleError && (error.code === "NO_BINARY" || error.code === "OUT_OF_MEMORY");
    if (!missing || preview === true) throw error;
    progress.warn(`no linear preview was fitted: ${error.message.split("\n", 1)[0]}`);
    return null;
  }
}

/** loadModel wants roles where files do not say them by their order. */
function sourceOf({ tensors }: CheckpointInfo, paths: string[]): ModelSource {
  if (paths.length === 1) return paths[0]!;
  const fileOf = (prefix: string) => paths[tensors.find(({ name }) => name.startsWith(prefix))?.file ?? 0]!;
  return { var: fileOf("var."), tokenizer: fileOf("vae.") };
}

function speedometer(sourceBytes: number, progress: Progress): NonNullable<ConvertOptions["onProgress"]> {
  const begin = performance.now();
  let shownAt = 0;
  let lastTenth = 0;
  return (fraction, tensor) => {
    const now = performance.now();
    const tenth = Math.floor(10 * fraction);
    if (now - shownAt < 50 && fraction < 1) return;
    shownAt = now;
    const done = fraction * sourceBytes;
    const speed = `${formatBytes((1000 * done) / Math.max(1, now - begin))}/s`;
    const figures = `${formatBytes(done)} of ${formatBytes(sourceBytes)}  ${speed}`;
    progress.update(`${bar(fraction)} ${String(Math.floor(100 * fraction)).padStart(3)}%  ${figures}  ${tensor}`);
    if (tenth > lastTenth) progress.log(`${10 * tenth}%  ${figures}`);
    lastTenth = tenth;
  };
}
