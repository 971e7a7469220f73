/** The architecture, from names and shapes of the tensors alone; and the shape that every tensor must then have. */

import { InvalidCheckpointError, InvalidOptionError } from "../errors.js";
import { type StoredTensor, weightDType } from "./dtype.js";
import { type TokenizerShape, type TransformerShape, tokenizerShapes, transformerShapes } from "./expected.js";
import { printable } from "./pickle-values.js";
import { listNames } from "./state-dict.js";

type Tensors = ReadonlyMap<string, StoredTensor>;

/** @throws InvalidCheckpointError that names the tensor, what was found and what was expected */
export function inferTransformer(path: string, tensors: Tensors): TransformerShape {
  const reader = new ShapeReader(path, "transformer", tensors);
  const [classRows, width] = reader.shape("class_emb.weight", 2);
  const sharedAda = tensors.has("shared_ada_lin.1.weight");
  const l2Norm = tensors.has("blocks.0.attn.scale_mul_1H11");
  const [numScales] = reader.shape("lvl_embed.weight", 2);
  const shape: TransformerShape = {
    depth: reader.count("blocks."),
    width: width!,
    numHeads: l2Norm ? reader.shape("blocks.0.attn.scale_mul_1H11", 4)[1]! : null,
    mlpWidth: reader.shape("blocks.0.ffn.fc1.weight", 2)[0]!,
    numClasses: classRows! - 1,
    sharedAda,
    l2Norm,
    codebookSize: reader.shape("head.weight", 2)[0]!,
    codeDim: reader.shape("word_embed.weight", 2)[1]!,
    numScales: numScales!,
    numTokens: reader.shape("pos_1LC", 3)[1]!,
    firstTokens: reader.shape("pos_start", 3)[1]!,
  };
  if (shape.numClasses < 1) throw reader.wrong(`class_emb.weight has ${classRows} rows, at least 2 were expected`);
  if (shape.numHeads !== null && shape.width % shape.numHeads !== 0) {
    throw reader.wrong(`the width ${shape.width} is not a multiple of its ${shape.numHeads} heads`);
  }
  reader.require(transformerShapes(shape));
  return shape;
}

/** @throws InvalidCheckpointError that names the tensor, what was found and what was expected */
export function inferTokenizer(path: string, tensors: Tensors): TokenizerShape {
  const reader = new ShapeReader(path, "tokenizer", tensors);
  const [codebookSize, codeDim] = reader.shape("quantize.embedding.weight", 2);
  const channels = reader.shape("encoder.conv_in.weight", 4)[0]!;
  const levels = reader.count("encoder.down.");
  const multipliers = Array.from({ length: levels }, (_, level) => {
    const name = `encoder.down.${level}.block.0.conv1.weight`;
    const width = reader.shape(name, 4)[0]!;
    if (width % channels !== 0)
      throw reader.wrong(`${name} has ${width} channels, a multiple of ${channels} was expected`);
    if (width % 32 !== 0)
      throw reader.wrong(`${name} has ${width} channels, a multiple of 32 was expected (the groups of every norm)`);
    return width / channels;
  });
  const shape: TokenizerShape = {
    codebookSize: codebookSize!,
    codeDim: codeDim!,
    residualConvs: residualConvs(reader),
    channels,
    multipliers,
    numResBlocks: reader.count("encoder.down.0.block."),
  };
  reader.require(tokenizerShapes(shape));
  return shape;
}

function residualConvs(reader: ShapeReader): TokenizerShape["residualConvs"] {
  const base = "quantize.quant_resi.";
  if (reader.tensors.has(`${base}qresi.weight`)) return { sharing: "shared", count: 1 };
  if (reader.has(`${base}qresi_ls.`)) return { sharing: "shared", count: reader.count(`${base}qresi_ls.`) };
  if (reader.has(base)) return { sharing: "per-scale", count: reader.count(base) };
  return { sharing: "none", count: 0 }; // trained with quant_resi = 0
}

/**
 * Heads of a transformer. Without L2-norm attention nothing tells them: the reference makes as many as blocks (with
 * width 64 per block), and so does this unless `given`.
 */
export function resolveHeads(
  path: string,
  shape: TransformerShape,
  given: number | undefined,
  warn: (text: string) => void,
): number {
  const { width, depth, numHeads } = shape;
  if (given !== undefined) {
    if (numHeads !== null && numHeads !== given) {
      throw new InvalidOptionError("heads", String(given), `${numHeads}, the heads of ${path}`);
    }
    if (width % given !== 0) throw new InvalidOptionError("heads", String(given), `a divisor of the width ${width}`);
    return given;
  }
  if (numHeads !== null) return numHeads;
  const guess = width % depth === 0 ? depth : width % 64 === 0 ? width / 64 : null;
  if (guess === null) {
    throw new InvalidCheckpointError(
      `${path}: nothing in it tells the number of heads (no L2-norm attention; width ${width}, depth ${depth}): give the option "heads"`,
    );
  }
  warn(
    `${path} does not tell its number of heads: ${guess} assumed, as the reference would (no L2-norm attention); the option "heads" changes it`,
  );
  return guess;
}

class ShapeReader {
  constructor(
    private readonly path: string,
    private readonly part: string,
    readonly tensors: Tensors,
  ) {}

  has(prefix: string): boolean {
    for (const name of this.tensors.keys()) if (name.startsWith(prefix)) return true;
    return false;
  }

  /** Sizes of a tensor that must be there; all are at least 1. */
  shape(name: string, rank: number): number[] {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw this.wrong(`tensor ${name} is missing`);
    if (tensor.shape.length !== rank || tensor.shape.some((side) => side < 1)) {
      throw this.wrong(`tensor ${name} has shape [${tensor.shape.join(", ")}], ${rank} dimensions were expected`);
    }
    return tensor.shape;
  }

  /** How many numbers follow `prefix`; they must run from 0 without a gap. */
  count(prefix: string): number {
    const indices = new Set<number>();
    for (const name of this.tensors.keys()) {
      if (!name.startsWith(prefix)) continue;
      const digits = /^(0|[1-9]\d{0,5})\./.exec(name.slice(prefix.length))?.[1];
      if (digits === undefined) throw this.wrong(`tensor ${printable(name)} was not expected`);
      indices.add(Number(digits));
    }
    for (let index = 0; index < Math.max(indices.size, 1); index++) {
      if (!indices.has(index)) throw this.wrong(`the tensors ${prefix}${index}.* are missing`);
    }
    return indices.size;
  }

  /** Every tensor is there, has its shape and a format that weights may have; and there are no others. */
  require(expected: ReadonlyMap<string, number[]>): void {
    const missing = [...expected.keys()].filter((name) => !this.tensors.has(name));
    if (missing.length > 0) throw this.wrong(`${missing.length} tensors are missing: ${listNames(missing)}`);
    const unexpected = [...this.tensors.keys()].filter((name) => !expected.has(name));
    if (unexpected.length > 0)
      throw this.wrong(`${unexpected.length} tensors were not expected: ${listNames(unexpected)}`);
    for (const [name, shape] of expected) {
      const tensor = this.tensors.get(name)!;
      if (tensor.shape.length !== shape.length || tensor.shape.some((side, axis) => side !== shape[axis])) {
        throw this.wrong(`tensor ${name} has shape [${tensor.shape.join(", ")}], [${shape.join(", ")}] was expected`);
      }
      if (weightDType(tensor.dtype) === null) {
        throw this.wrong(
          `tensor ${name} has format ${tensor.dtype}, F32, F16 or BF16 was expected: save the weights in one of them`,
        );
      }
    }
  }

  wrong(found: string): InvalidCheckpointError {
    return new InvalidCheckpointError(`${this.path}: ${this.part}: ${found}`);
  }
}
