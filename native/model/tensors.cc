#include "native/model/tensors.h"

#include <utility>

namespace nextscale {

TransformerTensors::TransformerTensors(const ModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  const size_t width = transformer.width;
  word = AddLinear("word_embed", width, config.tokenizer.code_dim);
  class_embedding = Add("class_emb.weight", {transformer.num_classes + 1, width});
  start_position = Add("pos_start", {1, config.tokenizer.sides[0] * config.tokenizer.sides[0], width});
  position = Add("pos_1LC", {1, config.num_tokens(), width});
  level = Add("lvl_embed.weight", {config.num_scales(), width});
  if (transformer.shared_ada) shared_ada = AddLinear("shared_ada_lin.1", 6 * width, width);
  for (size_t block_index = 0; block_index < transformer.depth; ++block_index) {
    block_index_ = block_index;
    AddBlock(transformer);
  }
  block_index_.reset();
  head_ada = AddLinear("head_nm.ada_lin.1", 2 * width, width);
  head = AddLinear("head", config.tokenizer.codebook_size, width);
}

void TransformerTensors::AddBlock(const TransformerConfig& transformer) {
  const size_t width = transformer.width;
  const std::string prefix = "blocks." + std::to_string(*block_index_) + ".";
  BlockTensors& block = blocks.emplace_back();
  if (transformer.l2_norm) block.scale_mul = Add(prefix + "attn.scale_mul_1H11", {1, transformer.num_heads, 1, 1});
  block.q_bias = Add(prefix + "attn.q_bias", {width});
  block.v_bias = Add(prefix + "attn.v_bias", {width});
  block.qkv = Add(prefix + "attn.mat_qkv.weight", {3 * width, width});
  block.proj = AddLinear(prefix + "attn.proj", width, width);
  block.fc1 = AddLinear(prefix + "ffn.fc1", transformer.mlp_width, width);
  block.fc2 = AddLinear(prefix + "ffn.fc2", width, transformer.mlp_width);
  if (transformer.shared_ada) {
    block.ada_offset = Add(prefix + "ada_gss", {1, 1, 6, width});
  } else {
    block.ada = AddLinear(prefix + "ada_lin.1", 6 * width, width);
  }
}

size_t TransformerTensors::Add(std::string name, std::vector<size_t> shape) {
  all.push_back({.name = std::move(name), .shape = std::move(shape), .block_index = block_index_});
  return all.size() - 1;
}

LinearTensors TransformerTensors::AddLinear(const std::string& name, size_t n, size_t k) {
  LinearTensors tensors;
  tensors.weight = Add(name + ".weight", {n, k});
  tensors.bias = Add(name + ".bias", {n});
  return tensors;
}

}  // namespace nextscale
