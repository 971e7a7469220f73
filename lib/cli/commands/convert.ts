/** `nextscale convert`: any checkpoint -> one safetensors file, streamed. */

import { Command, Option } from "commander";
import { type CheckpointInfo, convertCheckpoint, openCheckpoint } from "../../checkpoint/index.js";
import { InvalidOptionError, NextscaleError } from "../../errors.js";
import { duplicates, readLabelFile } from "../../labels/index.js";
import type { DType } from "../../native/contract.js";
import { machineMemory } from "../../native/machine.js";
import type { ConvertOptions, ModelNotes } from "../../options/checkpoint.js";
import type { ModelSource } from "../../options/load.js";
import type { Strategy } from "../../values/architecture.js";
import { integer, list, note, number } from "../args.js";
import { type CliContext, printJson } from "../context.js";
import { formatBytes, formatMs } from "../format.js";
import { type ArchitectureFlags, addArchitectureOptions } from "../options.js";
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

interface ConvertFlags extends ArchitectureFlags {
  output: string;
  dtype?: DType;
  labels?: string;
  name?: string;
  note?: Record<string, string>;
  guidance?: number;
  topK?: number;
  topP?: number;
  bridge?: number;
  depths?: number[];
  strategy?: Strategy;
  preview?: boolean;
  verbose?: boolean;
  json?: boolean;
}

export function convertCommand(context: CliContext): Command {
  const command = new Command("convert")
    .description("write any checkpoint as one safetensors file that opens at once")
    .argument("<var>", "the transformer (.pth, .safetensors), or a file that holds both parts")
    .argument("[tokenizer]", "the tokenizer")
    .requiredOption("-o, --output <file>", "the .safetensors file to write")
    .addOption(
      new Option("--dtype <dtype>", "format of the matrices and convolutions (default: as they are)").choices([
        "f32",
        "f16",
        "bf16",
      ]),
    );
  return addArchitectureOptions(command)
    .option("--labels <file>", "class names: one per line, a JSON or Python list or table, synset_words.txt, or CSV")
    .option("--name <text>", "name of the model")
    .option("--note <key=value>", "anything else worth keeping, such as license=MIT (repeatable)", note)
    .option("--guidance <t>", "recommended guidance", number(0, 1000))
    .option("--top-k <n>", "recommended top-k", integer(0))
    .option("--top-p <p>", "recommended top-p", number(0, 1))
    .option("--bridge <n>", "scales that a supernet was trained to run at full depth", integer(0))
    .option("--depths <list>", "depths that a supernet was trained for, such as 2,4,8,16,30", list(integer(1)))
    .addOption(new Option("--strategy <name>", "choice of a subnet's blocks in training").choices(["even", "nested"]))
    .option("--preview", "fit the linear preview (default: for models of up to 2 GiB that fit into free memory)")
    .option("--no-preview", "do not; it is then fitted at its first use")
    .option("--verbose", "plain lines instead of a progress bar")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", EXAMPLES)
    .action((transformer: string, tokenizer: string | undefined, flags: ConvertFlags) =>
      convert(tokenizer === undefined ? [transformer] : [transformer, tokenizer], flags, context),
    );
}

async function convert(paths: string[], flags: ConvertFlags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const { signal } = context;
  const { output, weights, heads, sides, dtype } = flags;
  if (!/\.safetensors$/i.test(output)) {
    throw new InvalidOptionError("output", JSON.stringify(output), "a name that ends in .safetensors");
  }
  await proveWritable(output);
  const labels = flags.labels === undefined ? undefined : await readLabelFile(flags.labels, "--labels");
  const progress = createProgress(context, flags.verbose ?? false);
  try {
    const info = await openCheckpoint(paths, { weights, heads, sides, signal });
    if (labels !== undefined && labels.length !== info.config.numClasses) {
      const expected = `${info.config.numClasses} names, one for each class`;
      throw new InvalidOptionError("--labels", `${labels.length} in ${flags.labels}`, expected);
    }
    progress.log(`${paths.join(" + ")}: ${formatBytes(info.bytes)} of weights`);
    for (const warning of info.warnings) progress.warn(warning);
    for (const { name, classes } of duplicates(labels ?? [])) {
      progress.warn(
        `${JSON.stringify(name)} names classes ${classes.join(" and ")}: only their numbers tell them apart`,
      );
    }
    const previewMatrix = await previewOf(info, paths, flags, progress, context);
    const { bytes } = await convertCheckpoint({
      source: paths,
      output,
      weights,
      heads,
      sides,
      dtype,
      signal,
      ...notesOf(flags),
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
    if (flags.json) printJson(context, { ...result, totalMs });
    else context.stdout.write(`${output}: ${formatBytes(bytes)}, ${dtype ?? "formats kept"}, ${formatMs(totalMs)}\n`);
  } finally {
    progress.close();
  }
}

function hasPreview(info: CheckpointInfo, fitted: Float32Array | null): boolean {
  return fitted !== null || info.previewMatrix !== undefined;
}

/** What the flags say about the model; the rest is taken over from the source. */
function notesOf(flags: ConvertFlags): ModelNotes {
  const { name, note: metadata, bridge, depths, strategy, guidance, topK, topP } = flags;
  const recommended = {
    ...(guidance !== undefined && { guidance }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
  };
  return {
    ...(name !== undefined && { name }),
    ...(metadata !== undefined && { metadata }),
    ...(bridge !== undefined && { bridge }),
    ...(depths !== undefined && { depths }),
    ...(strategy !== undefined && { strategy }),
    ...(Object.keys(recommended).length > 0 && { recommended }),
  };
}

const MAX_PREVIEW_BYTES = 2 * 2 ** 30;

/** The fit needs the opened model, a conversion does not: large ones are not opened unless asked for. */
async function previewOf(
  info: CheckpointInfo,
  paths: string[],
  { preview, weights, heads, sides }: ConvertFlags,
  progress: Progress,
  context: CliContext,
): Promise<Float32Array | null> {
  const affordable = info.bytes <= MAX_PREVIEW_BYTES && 1.5 * info.bytes < machineMemory().availableBytes;
  if (preview === false || (preview === undefined && (info.previewMatrix !== undefined || !affordable))) return null;
  const { signal } = context;
  try {
    progress.update("fitting the linear preview: opening the model");
    const model = await context.loadModel(sourceOf(info, paths), {
      ...(weights && { weights }),
      ...(heads && { heads }),
      ...(sides && { sides }),
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
