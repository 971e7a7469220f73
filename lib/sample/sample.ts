/** Many images of every class, for measuring a model: the same ones whoever makes them, in however many shards. */

import { AbortError } from "../errors.js";
import type { Image } from "../image/image.js";
import type { Model } from "../model/model.js";
import { fail } from "../options/check.js";
import { type ResolvedSampleSettings, resolveSampleSettings, type SampleSettings } from "../options/sample.js";
import { NpzFile } from "./npz-file.js";
import { PngFolder, type Sink } from "./png-folder.js";
import { recordOf } from "./record.js";
import { consecutive, counterOf, type Sample, Work } from "./work.js";

export interface SampleOptions extends SampleSettings {
  model: Model;
}

export interface SampleResult {
  output: string;
  format: "png" | "npz";
  /** Numbers of the classes. */
  classes: number[];
  perClass: number;
  seed: bigint;
  /** Images of all shards together. */
  total: number;
  /** Images of this shard that are in their place. */
  images: number;
  /** Of them, how many an earlier run had made. */
  resumed: number;
  /** Whether the images of all shards are in their place; an `.npz` is written then. */
  complete: boolean;
}

const MAX_BATCH = 32;

/**
 * Draws `perClass` images of each class into a folder of PNG files or an `.npz`. An image depends on the seed, its
 * class and its number in the class (and on model, depth, guidance and filters) alone: sharding, batches and
 * interruptions change nothing. What is there already is not made again.
 *
 * @throws InvalidOptionError (also when other settings made what is there), IoError, PoolExhaustedError, AbortError
 */
export async function sampleModel(options: SampleOptions): Promise<SampleResult> {
  const { model, ...rest } = options ?? {};
  if (typeof model?.generate !== "function") fail("model", model, "a model");
  const { architecture, classNames } = model;
  const settings = resolveSampleSettings(rest, { numClasses: architecture.numClasses, classNames });
  const { output, format, classes, perClass, seed, signal, shard } = settings;
  const work = new Work(classes, perClass);
  const sink = sinkFor(settings, work, architecture.numClasses, architecture.imageSide);
  const batch = settings.batch ?? batchFor(model, settings);
  requireGoing(signal);
  await sink.prepare(recordOf(model, settings), settings.overwrite);
  const [first, end] = work.rangeOf(shard);
  const missing = missingSamples(work, sink, first, end);
  const resumed = end - first - missing.length;
  const report = (done: number) => settings.onProgress?.({ done, total: end - first, resumed });
  report(resumed);
  try {
    for (let start = 0; start < missing.length; start += batch) {
      requireGoing(signal);
      const part = missing.slice(start, start + batch);
      await sink.add(part, await draw(model, part, settings));
      report(resumed + Math.min(missing.length, start + batch));
    }
  } finally {
    await sink.flush();
  }
  const complete = await sink.finish();
  const { total } = work;
  return { output, format, classes, perClass, seed, total, images: end - first, resumed, complete };
}

function sinkFor(
  { output, format, seed, order, shard }: ResolvedSampleSettings,
  work: Work,
  numClasses: number,
  side: number,
): Sink {
  const shared = shard.of > 1;
  if (format === "npz") return new NpzFile(output, work, { side, shared, seed: order === "random" ? seed : null });
  const all = function* () {
    for (let position = 0; position < work.total; position++) yield work.at(position);
  };
  return new PngFolder(output, String(numClasses - 1).length, shared, all);
}

function missingSamples(work: Work, sink: Sink, first: number, end: number): Sample[] {
  const missing: Sample[] = [];
  for (let position = first; position < end; position++) {
    const sample = work.at(position);
    if (!sink.has(sample)) missing.push(sample);
  }
  return missing;
}

/** As many images as the pool holds; one that does not fit is the pool's to refuse. */
function batchFor(model: Model, { generate }: ResolvedSampleSettings): number {
  return Math.max(1, Math.min(MAX_BATCH, model.imagesAtOnce(generate)));
}

/**
 * Images of one batch, in the order of the samples: one generation per run of counters; the engine computes them
 * together.
 */
async function draw(model: Model, samples: readonly Sample[], settings: ResolvedSampleSettings): Promise<Image[]> {
  const { seed, generate, signal } = settings;
  const stop = new AbortController(); // one failure ends the others
  const signals = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const generations = consecutive(samples).map(async (run) => {
    const labels = run.map(({ classIndex }) => classIndex);
    return model.generate({ ...generate, seed, firstImage: counterOf(run[0]!), labels, signal: signals }).images();
  });
  try {
    return (await Promise.all(generations)).flat();
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(generations);
    throw error;
  }
}

function requireGoing(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError("sampling was cancelled", { cause: signal.reason });
}
