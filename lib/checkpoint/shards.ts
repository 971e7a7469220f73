/**
 * Sharded sets: an index (`model.safetensors.index.json`, `pytorch_model.bin.index.json`) says which file beside it
 * holds which tensor. Source: the sharded checkpoints of huggingface_hub and transformers.
 */

import { dirname, join } from "node:path";
import { InvalidCheckpointError } from "../errors.js";
import { findDuplicateKey } from "./json-keys.js";
import { printable } from "./pickle-values.js";
import { FileSource } from "./source.js";

/** What one path stands for. */
export interface SourceGroup {
  /** As it was given. */
  path: string;
  /** The files that hold tensors: itself, or the shards. */
  files: string[];
  /** By the name of a tensor, the shard that holds it; null for a single file. */
  shardOf: ReadonlyMap<string, string> | null;
}

const MAX_INDEX_BYTES = 64 * 2 ** 20;
const MAX_SHARDS = 1000;

/** A single file stands for itself; an index for its shards. @throws InvalidCheckpointError, IoError */
export async function expandSource(path: string): Promise<SourceGroup> {
  if (!/\.json$/i.test(path)) return { path, files: [path], shardOf: null };
  const shards = parseIndex(path, await readIndex(path));
  const folder = dirname(path);
  const files = [...new Set(shards.values())].sort().map((name) => join(folder, name));
  const shardOf = new Map([...shards].map(([tensor, name]) => [tensor, join(folder, name)]));
  return { path, files, shardOf };
}

async function readIndex(path: string): Promise<string> {
  const source = await FileSource.open(path);
  try {
    if (source.size > MAX_INDEX_BYTES)
      throw invalid(path, `it has ${source.size} bytes, at most ${MAX_INDEX_BYTES} were expected`);
    const text = (await source.read(0, source.size)).toString("utf8").replace(/^\uFEFF/, "");
    await source.requireUnchanged();
    return text;
  } finally {
    await source.close();
  }
}

function parseIndex(path: string, text: string): Map<string, string> {
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (error) {
    throw invalid(path, "it is not JSON", error);
  }
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map))
    throw invalid(path, "it is JSON text, but no index of a sharded checkpoint: it has no weight_map");
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) throw invalid(path, `it holds the key ${printable(JSON.stringify(duplicate))} twice`);
  const shards = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !isPlainName(file)) {
      const found = printable(JSON.stringify(file) ?? "nothing");
      throw invalid(
        path,
        `tensor ${printable(tensor)} lies in ${found}: the name of a file in the same folder was expected`,
      );
    }
    shards.set(tensor, file);
  }
  const count = new Set(shards.values()).size;
  if (count === 0) throw invalid(path, "its weight_map is empty");
  if (count > MAX_SHARDS) throw invalid(path, `it names ${count} files, at most ${MAX_SHARDS} were expected`);
  return shards;
}

/** A name that cannot leave the folder, on any system. */
function isPlainName(name: string): boolean {
  return /^[^/\\:\0]{1,255}$/.test(name) && name !== "." && name !== "..";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(path: string, found: string, cause?: unknown): InvalidCheckpointError {
  return new InvalidCheckpointError(`${path}: ${found}`, { cause });
}
