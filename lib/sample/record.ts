/** What the images of a run depend on, kept beside them: a run that goes on must not mix them with others. */

import { readFile } from "node:fs/promises";
import { InvalidOptionError, IoError } from "../errors.js";
import { writeAtomically } from "../files/atomic-file.js";
import type { Model } from "../model/model.js";
import type { ResolvedSampleSettings } from "../options/sample.js";

const VERSION = 1;

/** Every field decides about pixels, or (in an `.npz`) about which images there are. */
export function recordOf(model: Model, settings: ResolvedSampleSettings) {
  const { format, seed, generate, classes, perClass, order, modelId } = settings;
  const { architecture, strategy, bridge, tokenizerFingerprint } = model;
  return {
    version: VERSION,
    model: { id: modelId, architecture, strategy, bridge, tokenizerFingerprint },
    seed: String(seed),
    ...generate,
    ...(format === "npz" && { classes, perClass, order }), // PNG files may become more
  };
}

export type SampleRecord = ReturnType<typeof recordOf>;

/**
 * Writes the record, or compares it with the one that is there. One that has outlived its images binds nobody.
 *
 * @param hasImages whether anything is there that was made with the record
 * @throws InvalidOptionError when it differs, IoError
 */
export async function settle(path: string, record: SampleRecord, hasImages: () => Promise<boolean>): Promise<void> {
  const text = `${JSON.stringify(record, null, 1)}\n`;
  const found = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return null;
    throw new IoError(`cannot read ${path}: ${cause.message}`, { cause });
  });
  if (found === null) await writeAtomically(path, Buffer.from(text));
  else if (found !== text && !(await hasImages())) await writeAtomically(path, Buffer.from(text));
  else if (found !== text) {
    const what = differenceOf(found, record);
    throw new InvalidOptionError(
      "output",
      `images made with another ${what} (${path})`,
      "an empty place, or the same settings (overwrite starts anew)",
    );
  }
}

function differenceOf(text: string, record: SampleRecord): string {
  let found: Record<string, unknown>;
  try {
    found = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return "program";
  }
  const wanted = record as Record<string, unknown>;
  const keys = [...new Set([...Object.keys(wanted), ...Object.keys(found ?? {})])];
  return keys.find((key) => JSON.stringify(found?.[key]) !== JSON.stringify(wanted[key])) ?? "program";
}
