/** `supernet.json`: the options of trainSupernet, with paths relative to the file. */

import { readFile } from "node:fs/promises";
import { dirname, isAbsolute, resolve } from "node:path";
import { InvalidOptionError, IoError } from "../errors.js";

/** Raw options: lib/options/train.ts checks them. */
export type RawTrainOptions = Record<string, unknown>;

/** Reads the file and makes its paths absolute. @throws IoError, InvalidOptionError */
export async function readTrainConfig(path: string): Promise<RawTrainOptions> {
  const text = await readFile(path, "utf8").catch((cause: Error) => {
    throw new IoError(`cannot read ${path}: ${cause.message}`, { cause });
  });
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new InvalidOptionError("--config", path, `a JSON file (${(cause as Error).message})`, { cause });
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new InvalidOptionError("--config", path, "a JSON object with the options of the training");
  }
  return absolute(config as RawTrainOptions, dirname(resolve(path)));
}

/** Values of another type than a path's are left for the check of the options. */
function absolute(config: RawTrainOptions, folder: string): RawTrainOptions {
  const place = (value: unknown) =>
    typeof value === "string" && value !== "" && !isAbsolute(value) ? resolve(folder, value) : value;
  const result = { ...config };
  for (const key of ["tokens", "heldout", "output"]) if (key in result) result[key] = place(result[key]);
  const { base } = config;
  if (typeof base === "string") {
    result.base = base === "digits" ? base : place(base);
  } else if (typeof base === "object" && base !== null && !Array.isArray(base)) {
    const parts: RawTrainOptions = { ...base };
    for (const key of ["var", "tokenizer"]) if (key in parts) parts[key] = place(parts[key]);
    result.base = parts;
  }
  return result;
}
