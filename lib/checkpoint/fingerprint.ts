/**
 * Which tokenizer is this? What makes tokens of one tokenizer unreadable to another is its codebook and how it is used.
 */

import { createHash } from "node:crypto";
import { InvalidCheckpointError } from "../errors.js";
import type { TensorEntry } from "../native/contract.js";
import { bytesOf, numElements, storedDType } from "./dtype.js";
import type { CheckpointInfo } from "./open.js";
import { readWhole } from "./read-tensor.js";
import { bitsOf, convert } from "./round.js";
import { type FileSource, withFiles } from "./source.js";

const CODEBOOK = "vae.quantize.embedding.weight";
const RESIDUAL_CONVS = "vae.quantize.quant_resi.";

/** A codebook is a megabyte or so; a file may claim anything. */
const MAX_BYTES = 2 ** 28;

/**
 * SHA-256 over the codebook and the residual convolutions (names, shapes, values as f32), in hexadecimal. The same for
 * a `.pth` file and for everything converted from it, because a conversion to a narrower format keeps these tensors in
 * f32.
 *
 * @throws InvalidCheckpointError when there is no tokenizer or its codebook is too large, IoError
 */
export async function tokenizerFingerprint({
  files,
  tensors,
  stamps,
}: Pick<CheckpointInfo, "files" | "tensors"> & Partial<Pick<CheckpointInfo, "stamps">>): Promise<string> {
  const wanted = tensors
    .filter(({ name }) => name === CODEBOOK || name.startsWith(RESIDUAL_CONVS))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (!wanted.some(({ name }) => name === CODEBOOK)) {
    throw new InvalidCheckpointError(`${files.join(", ")}: holds no tokenizer: no tensor ${CODEBOOK}`);
  }
  const elements = wanted.reduce((total, { shape }) => total + numElements(shape), 0);
  if (4 * elements > MAX_BYTES) {
    throw new InvalidCheckpointError(
      `${files.join(", ")}: the codebook and the residual convolutions have ${elements} elements, at most ${MAX_BYTES / 4} were expected`,
    );
  }
  const hash = createHash("sha256");
  const paths = [...new Set(wanted.map(({ file }) => files[file]!))];
  const read = async (sources: FileSource[]) => {
    for (const tensor of wanted) {
      hash.update(`${tensor.name} ${tensor.shape.join("x")}\n`);
      hash.update(await readAsF32(sources[paths.indexOf(files[tensor.file]!)]!, tensor));
    }
  };
  await withFiles(paths, read, stamps);
  return hash.digest("hex");
}

async function readAsF32(source: FileSource, tensor: TensorEntry): Promise<Uint8Array> {
  const { shape, dtype } = tensor;
  const count = numElements(shape);
  const bytes = await readWhole(source, tensor, bytesOf(storedDType(dtype)));
  if (dtype === "f32") return bytes;
  const wide = new Uint32Array(count);
  convert(wide, "f32", bitsOf(bytes, dtype), dtype, count);
  return new Uint8Array(wide.buffer);
}
