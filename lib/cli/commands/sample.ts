/** `nextscale sample`: many images of every class as PNG files or one `.npz`, sharded and resumable. */

import { Command } from "commander";
import { ambiguities, checkTyped } from "../../labels/index.js";
import { ZONES } from "../../options/depth.js";
import { LOAD } from "../../options/load.js";
import { SAMPLE, type SampleProgress, type SampleSettings, type SampleShard } from "../../options/sample.js";
import { type SampleResult, sampleModel } from "../../sample/index.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, depthOf, type Flags, given, nameOf, OUTPUT, SOURCE, sourceOf } from "../flags.js";
import { formatMs } from "../format.js";
import { modelId } from "../model-id.js";
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

export function sampleCommand(context: CliContext): Command {
  const command = new Command("sample")
    .description("draw many images of every class, for measuring a model")
    .argument("[model]", "a model, as --model");
  return addFlags(command, [SOURCE, SAMPLE, ZONES.pick("bridge"), LOAD, OUTPUT])
    .addHelpText("after", EXAMPLES)
    .action((model: string | undefined, flags: Flags) => sample(model, flags, context));
}

async function sample(path: string | undefined, flags: Flags, context: CliContext): Promise<void> {
  const begin = performance.now();
  const source = sourceOf(flags, path);
  const settings = given(SAMPLE, flags) as SampleSettings;
  const depth = depthOf(flags, "--depth n") as SampleSettings["depth"];
  const { verbose, json } = given(OUTPUT, flags);
  const progress = createProgress(context, verbose ?? false);
  try {
    const id = await modelId(source);
    const model = await context.loadModel(source, { ...given(LOAD, flags), signal: context.signal });
    for (const warning of model.warnings) progress.warn(warning);
    try {
      const known = { numClasses: model.architecture.numClasses, classNames: model.classNames };
      checkTyped(settings.classes ?? [], known);
      for (const line of ambiguities(settings.classes ?? [], known)) progress.warn(line);
      const result = await sampleModel({
        model,
        modelId: id,
        ...settings,
        depth,
        onProgress: meter(progress),
        signal: context.signal,
      });
      progress.close();
      report(nameOf(source), result, { shard: settings.shard, json }, performance.now() - begin, context);
    } finally {
      await model.dispose();
    }
  } finally {
    progress.close();
  }
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

function report(
  model: string,
  result: SampleResult,
  flags: { shard?: SampleShard | undefined; json: boolean | undefined },
  totalMs: number,
  context: CliContext,
): void {
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
