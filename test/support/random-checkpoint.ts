/** Checkpoints of any architecture with random weights, as torch.save would write them. */

import type { TokenizerShape, TransformerShape } from "../../lib/checkpoint/expected.js";
import { tokenizerShapes, transformerShapes } from "../../lib/checkpoint/expected.js";
import { type Format, PyTensor, type PyValue } from "./pth-writer.js";

/** What a test chooses; everything else follows or has a default. */
export interface RandomModel {
  depth?: number;
  width?: number;
  heads?: number;
  mlpWidth?: number;
  numClasses?: number;
  sharedAda?: boolean;
  l2Norm?: boolean;
  codebookSize?: number;
  codeDim?: number;
  /** 0 = one per scale, -1 = none. */
  residualConvs?: number;
  channels?: number;
  multipliers?: number[];
  numResBlocks?: number;
  sides?: number[];
  /** Leave out the int64 buffer that tells the sides. */
  withoutLevels?: boolean;
  format?: Format;
  seed?: number;
}

export interface RandomStateDicts {
  var: Map<string, PyValue>;
  vae: Map<string, PyValue>;
}

export function randomStateDicts(model: RandomModel = {}): RandomStateDicts {
  const { sides = [1, 2, 4], codebookSize = 24, codeDim = 6, residualConvs = 4, format = "F32" } = model;
  const { width = 24, depth = 2, heads = 3, l2Norm = true } = model;
  const numTokens = sides.reduce((sum, side) => sum + side * side, 0);
  const transformer: TransformerShape = {
    depth,
    width,
    numHeads: l2Norm ? heads : null,
    mlpWidth: model.mlpWidth ?? 4 * width,
    numClasses: model.numClasses ?? 5,
    sharedAda: model.sharedAda ?? false,
    l2Norm,
    codebookSize,
    codeDim,
    numScales: sides.length,
    numTokens,
    firstTokens: sides[0]! ** 2,
  };
  const tokenizer: TokenizerShape = {
    codebookSize,
    codeDim,
    residualConvs:
      residualConvs < 0
        ? { sharing: "none", count: 0 }
        : residualConvs === 0
          ? { sharing: "per-scale", count: sides.length }
          : { sharing: "shared", count: residualConvs },
    channels: model.channels ?? 32,
    multipliers: model.multipliers ?? [1, 2],
    numResBlocks: model.numResBlocks ?? 1,
  };
  const random = new Random(model.seed ?? 1);
  const toDict = (shapes: Map<string, number[]>) =>
    new Map<string, PyValue>([...shapes].map(([name, shape]) => [name, random.tensor(format, shape)]));
  const dicts = { var: toDict(transformerShapes(transformer)), vae: toDict(tokenizerShapes(tokenizer)) };
  if (!model.withoutLevels) dicts.var.set("lvl_1L", levels(sides));
  for (let block = 0; block < depth; block++) {
    dicts.var.set(`blocks.${block}.attn.zero_k_bias`, random.tensor(format, [width]));
  }
  dicts.vae.set("quantize.ema_vocab_hit_SV", random.tensor("F32", [sides.length, codebookSize]));
  return dicts;
}

function levels(sides: number[]): PyTensor {
  const values = sides.flatMap((side, index) => new Array<number>(side * side).fill(index));
  const data = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => {
    data.writeBigInt64LE(BigInt(value), 8 * index);
  });
  return new PyTensor("I64", [1, values.length], data);
}

/** Seeded xorshift: good enough to tell bytes apart. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  }

  /** 1 .. 2^32-1 */
  bits(): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return this.state >>> 0;
  }

  below(limit: number): number {
    return this.bits() % limit;
  }

  /** Values of about ±0.5; formats other than F32 get finite bits of the same kind. */
  tensor(format: Format, shape: number[]): PyTensor {
    const count = shape.reduce((product, side) => product * side, 1);
    if (format === "F32") {
      const values = Float32Array.from({ length: count }, () => this.bits() / 2 ** 32 - 0.5);
      return new PyTensor(format, shape, new Uint8Array(values.buffer));
    }
    const mask = format === "F16" ? 0xbbff : 0xbf7f; // exponents below infinity
    const values = Uint16Array.from({ length: count }, () => this.bits() & mask);
    return new PyTensor(format, shape, new Uint8Array(values.buffer));
  }
}
