/**
 * Checkpoints of other families, by the names of their tensors: refused by name, with what nextscale lacks for them.
 * Names are those of the public repositories' modules.
 */

interface Family {
  name: string;
  /** What nextscale would need. */
  lacks: string;
  /** One of these names is enough. */
  marks: RegExp;
}

const TEXT = "a text encoder and cross-attention to it";

const FAMILIES: Family[] = [
  {
    name: "Infinity (text to image)",
    lacks: `${TEXT}, 2D rotary positions and bitwise tokens`,
    marks:
      /(^|\.)(text_proj_for_sos|text_proj_for_ca|text_norm|cfg_uncond|norm0_cond|norm0_ve|block_chunks)(\.|$)|(^|\.)blocks\.\d+\.(ca|sa)\./,
  },
  {
    name: "a tokenizer with binary codes (BSQ or LFQ, as Infinity's)",
    lacks: "bitwise quantisation",
    marks: /(^|\.)(lfq|bsq)\.|(^|\.)quantizer\.(lfqs?|mask|codebook|zero)(\.|$)/,
  },
  {
    name: "Switti (text to image)",
    lacks: `${TEXT}, rotary positions and crop conditions`,
    marks:
      /(^|\.)(text_pooler|crop_embed|crop_proj|crop_cond_scales)(\.|$)|(^|\.)blocks\.\d+\.(attn\.to_qkv|cross_attn\.to_(q|kv))\./,
  },
  {
    name: "HART (text to image)",
    lacks: `${TEXT}, rotary positions and the residual diffusion head`,
    marks:
      /(^|\.)(context_embed|context_norm|diffusion_head)(\.|$)|(^|\.)blocks\.\d+\.(attn\.qkv_proj|cross_attn\.q_linear|scale_shift_table)(\.|$)/,
  },
  { name: "HART's hybrid tokenizer", lacks: "its second, continuous decoder", marks: /(^|\.)decoder2\./ },
  {
    name: "MAR (masked generation with a diffusion loss)",
    lacks: "masked generation and the diffusion head",
    marks: /(^|\.)(diffloss|encoder_blocks|decoder_blocks|z_proj_ln)\./,
  },
  {
    name: "VAR-CLIP (text to image)",
    lacks: "a condition that is a CLIP embedding instead of a class",
    marks: /(^|\.)cond_proj\.weight$/,
  },
  {
    name: "STAR, or another text-to-image relative of VAR",
    lacks: TEXT,
    marks: /(^|\.)text_(proj|embed|embedding|encoder|model|norm)\.|(^|\.)blocks\.\d+\.(cross_attn|crossattn|xattn)\./,
  },
  {
    name: "M-VAR (Mamba blocks)",
    lacks: "state-space blocks",
    marks: /(^|\.)blocks\.\d+\..*(mamba|A_log|dt_proj|x_proj)/,
  },
  {
    name: "LlamaGen's tokenizer (one scale; FlexVAR uses it, too)",
    lacks: "that encoder and decoder",
    marks: /(^|\.)(encoder|decoder)\.conv_blocks\.|(^|\.)quantize\.codebook_used$/,
  },
  {
    name: "LlamaGen (token by token)",
    lacks: "generation in raster order",
    marks: /(^|\.)tok_embeddings\.weight$|(^|\.)layers\.\d+\.attention\.(wqkv|wq)\./,
  },
  {
    name: "a VQGAN of one scale (taming-transformers)",
    lacks: "a tokenizer without residual quantisation over scales",
    marks: /(^|\.)(encoder|decoder)\..*attn(_1|\.\d+)\.(q|k|v)\.weight$/,
  },
  {
    name: "a diffusion transformer (DiT, SiT, Flux, SD3)",
    lacks: "diffusion",
    marks: /(^|\.)(x_embedder|t_embedder|double_blocks|single_blocks|joint_blocks|time_text_embed)\./,
  },
  {
    name: "a latent diffusion model (Stable Diffusion)",
    lacks: "diffusion",
    marks: /(^|\.)(diffusion_model|first_stage_model|cond_stage_model|input_blocks|down_blocks|up_blocks)\./,
  },
  {
    name: "a CLIP or text model",
    lacks: "text",
    marks: /(^|\.)(text_model|vision_model|visual\.transformer|embed_tokens|lm_head)(\.|$)/,
  },
];

/** Wrapped in ways that leave no weights to read, or only some. */
const DEBRIS: { what: string; marks: RegExp }[] = [
  {
    what: "its parameters are flattened, as FSDP's shards are: gather them first (FullStateDictConfig) and save model.state_dict()",
    marks: /(^|[._])flat_param/,
  },
  {
    what: "it is a LoRA adapter: merge it into the model (merge_and_unload) and save that",
    marks: /(^|\.)(lora_[AB]|lora_(up|down)|lora_embedding_[AB])(\.|$)/,
  },
  {
    what: "its weights are quantized: save them in float32, float16 or bfloat16",
    marks: /\.(qweight|qzeros|SCB|weight_format|quant_map|absmax|weight_scale(_inv)?|_packed_params)(\.|$)/,
  },
];

/** Why a file with these tensors cannot be read, or null. */
export function recogniseStranger(names: readonly string[]): string | null {
  for (const { what, marks } of DEBRIS) {
    const found = names.find((name) => marks.test(name));
    if (found !== undefined) return `${what} (it holds ${found})`;
  }
  for (const { name, lacks, marks } of FAMILIES) {
    const found = names.find((tensor) => marks.test(tensor));
    if (found !== undefined) return `it is a checkpoint of ${name}: nextscale lacks ${lacks} (it holds ${found})`;
  }
  const has = (prefix: string) => names.some((name) => name.split(".").includes(prefix));
  if (has("class_emb") && has("pos_1LC") && has("blocks") && has("word_embed") && !has("lvl_embed")) {
    return "it has no tensor lvl_embed.weight, as FlexVAR's checkpoints: nextscale lacks positions that are resized to any scale, and LlamaGen's tokenizer";
  }
  return null;
}
