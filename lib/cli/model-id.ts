/**
 * What tells one model file from another without reading gigabytes: its size, its beginning, and pieces from all over
 * it.
 */

import { createHash } from "node:crypto";
import { withFiles } from "../checkpoint/source.js";
import { bundledModelPath } from "../native/binding.js";
import type { ModelSource } from "../options/load.js";

const HEAD_BYTES = 65_536;
const PIECE_BYTES = 4096;
const PIECES = 256;

/** The same wherever the files lie and whenever they were copied. @throws IoError */
export async function modelId(source: ModelSource | undefined): Promise<string> {
  const paths =
    source === undefined ? [bundledModelPath()] : typeof source === "string" ? [source] : Object.values(source);
  const hash = createHash("sha256");
  await withFiles(paths as string[], async (files) => {
    for (const file of files) {
      hash.update(`${file.size}\n`).update(await file.read(0, Math.min(HEAD_BYTES, file.size)));
      for (let piece = 1; piece <= PIECES; piece++) {
        const at = Math.max(0, Math.floor((piece * file.size) / PIECES) - PIECE_BYTES);
        hash.update(await file.read(at, Math.min(PIECE_BYTES, file.size)));
      }
    }
  });
  return hash.digest("hex");
}
