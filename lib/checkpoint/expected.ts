/** Names and shapes of every weight of an architecture, as the reference's modules create them. */

/** What the tensors of a transformer say. */
export interface TransformerShape {
  depth: number;
  width: number;
  /** null: nothing in the file tells it (no L2-norm attention). */
  numHeads: number | null;
  mlpWidth: number;
  numClasses: number;
  sharedAda: boolean;
  l2Norm: boolean;
  codebookSize: number;
  codeDim: number;
  numScales: number;
  numTokens: number;
  /** Tokens of the first scale. */
  firstTokens: number;
}

/** What the tensors of a tokenizer say. */
export interface TokenizerShape {
  codebookSize: number;
  codeDim: number;
  /** How residual convolutions are shared: their number, "per-scale", or "none". */
  residualConvs: { sharing: "shared" | "per-scale" | "none"; count: number };
  channels: number;
  multipliers: number[];
  numResBlocks: number;
}

type Shapes = Map<string, number[]>;

/** Weights of a transformer. Source: VAR/models/var.py, basic_var.py. */
export function transformerShapes(shape: TransformerShape): Shapes {
  const { width: C, numTokens: L, codebookSize: V, codeDim: E } = shape;
  const shapes: Shapes = new Map();
  shapes.set("class_emb.weight", [shape.numClasses + 1, C]);
  shapes.set("pos_start", [1, shape.firstTokens, C]);
  shapes.set("pos_1LC", [1, L, C]);
  shapes.set("lvl_embed.weight", [shape.numScales, C]);
  addLinear(shapes, "word_embed", C, E);
  if (shape.sharedAda) addLinear(shapes, "shared_ada_lin.1", 6 * C, C);
  for (let block = 0; block < shape.depth; block++) addBlock(shapes, `blocks.${block}.`, shape);
  addLinear(shapes, "head_nm.ada_lin.1", 2 * C, C);
  addLinear(shapes, "head", V, C);
  return shapes;
}

function addBlock(shapes: Shapes, prefix: string, { width: C, mlpWidth, numHeads, sharedAda }: TransformerShape): void {
  if (numHeads !== null) shapes.set(`${prefix}attn.scale_mul_1H11`, [1, numHeads, 1, 1]);
  shapes.set(`${prefix}attn.mat_qkv.weight`, [3 * C, C]);
  shapes.set(`${prefix}attn.q_bias`, [C]);
  shapes.set(`${prefix}attn.v_bias`, [C]);
  addLinear(shapes, `${prefix}attn.proj`, C, C);
  addLinear(shapes, `${prefix}ffn.fc1`, mlpWidth, C);
  addLinear(shapes, `${prefix}ffn.fc2`, C, mlpWidth);
  if (sharedAda) shapes.set(`${prefix}ada_gss`, [1, 1, 6, C]);
  else addLinear(shapes, `${prefix}ada_lin.1`, 6 * C, C);
}

/** Weights of a tokenizer. Source: VAR/models/vqvae.py, basic_vae.py, quant.py. */
export function tokenizerShapes(shape: TokenizerShape): Shapes {
  const { codebookSize: V, codeDim: E } = shape;
  const shapes: Shapes = new Map();
  shapes.set("quantize.embedding.weight", [V, E]);
  for (const name of residualConvNames(shape)) addConv(shapes, name, E, E, 3);
  addConv(shapes, "quant_conv", E, E, 3);
  addConv(shapes, "post_quant_conv", E, E, 3);
  addEncoder(shapes, shape);
  addDecoder(shapes, shape);
  return shapes;
}

function residualConvNames({ residualConvs: { sharing, count } }: TokenizerShape): string[] {
  const base = "quantize.quant_resi.";
  if (sharing === "shared" && count === 1) return [`${base}qresi`];
  const list = sharing === "per-scale" ? base : `${base}qresi_ls.`;
  return Array.from({ length: count }, (_, index) => `${list}${index}`);
}

function addEncoder(shapes: Shapes, { channels, multipliers, numResBlocks, codeDim }: TokenizerShape): void {
  addConv(shapes, "encoder.conv_in", channels, 3, 3);
  let width = channels;
  const last = multipliers.length - 1;
  multipliers.forEach((multiplier, level) => {
    const prefix = `encoder.down.${level}.`;
    for (let block = 0; block < numResBlocks; block++) {
      addResidualBlock(shapes, `${prefix}block.${block}`, width, channels * multiplier);
      width = channels * multiplier;
      if (level === last) addAttention(shapes, `${prefix}attn.${block}`, width);
    }
    if (level !== last) addConv(shapes, `${prefix}downsample.conv`, width, width, 3);
  });
  addMiddle(shapes, "encoder.mid.", width);
  addNorm(shapes, "encoder.norm_out", width);
  addConv(shapes, "encoder.conv_out", codeDim, width, 3);
}

function addDecoder(shapes: Shapes, { channels, multipliers, numResBlocks, codeDim }: TokenizerShape): void {
  const last = multipliers.length - 1;
  let width = channels * multipliers[last]!;
  addConv(shapes, "decoder.conv_in", width, codeDim, 3);
  addMiddle(shapes, "decoder.mid.", width);
  for (let level = last; level >= 0; level--) {
    const prefix = `decoder.up.${level}.`;
    for (let block = 0; block <= numResBlocks; block++) {
      addResidualBlock(shapes, `${prefix}block.${block}`, width, channels * multipliers[level]!);
      width = channels * multipliers[level]!;
      if (level === last) addAttention(shapes, `${prefix}attn.${block}`, width);
    }
    if (level !== 0) addConv(shapes, `${prefix}upsample.conv`, width, width, 3);
  }
  addNorm(shapes, "decoder.norm_out", width);
  addConv(shapes, "decoder.conv_out", 3, width, 3);
}

function addMiddle(shapes: Shapes, prefix: string, width: number): void {
  addResidualBlock(shapes, `${prefix}block_1`, width, width);
  addAttention(shapes, `${prefix}attn_1`, width);
  addResidualBlock(shapes, `${prefix}block_2`, width, width);
}

function addResidualBlock(shapes: Shapes, name: string, from: number, to: number): void {
  addNorm(shapes, `${name}.norm1`, from);
  addConv(shapes, `${name}.conv1`, to, from, 3);
  addNorm(shapes, `${name}.norm2`, to);
  addConv(shapes, `${name}.conv2`, to, to, 3);
  if (from !== to) addConv(shapes, `${name}.nin_shortcut`, to, from, 1);
}

function addAttention(shapes: Shapes, name: string, width: number): void {
  addNorm(shapes, `${name}.norm`, width);
  addConv(shapes, `${name}.qkv`, 3 * width, width, 1);
  addConv(shapes, `${name}.proj_out`, width, width, 1);
}

function addLinear(shapes: Shapes, name: string, to: number, from: number): void {
  shapes.set(`${name}.weight`, [to, from]);
  shapes.set(`${name}.bias`, [to]);
}

function addConv(shapes: Shapes, name: string, to: number, from: number, kernel: number): void {
  shapes.set(`${name}.weight`, [to, from, kernel, kernel]);
  shapes.set(`${name}.bias`, [to]);
}

function addNorm(shapes: Shapes, name: string, width: number): void {
  shapes.set(`${name}.weight`, [width]);
  shapes.set(`${name}.bias`, [width]);
}
