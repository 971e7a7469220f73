#include "native/train/parameters.h"

#include <algorithm>
#include <array>

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr size_t kAlignment = 16;  // floats: one cache line

bool Decays(std::string_view name, const std::vector<size_t>& shape) {
  constexpr std::array<std::string_view, 5> kNever = {"pos_1LC", "pos_start", "lvl_embed", "ada_gss", "scale_mul"};
  const auto named = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  return shape.size() > 1 && !name.ends_with("bias") && std::none_of(kNever.begin(), kNever.end(), named);
}

}  // namespace

ParameterLayout::ParameterLayout(const ModelConfig& config) {
  const TransformerConfig& var = config.transformer;
  const size_t width = var.width, first_tokens = config.tokenizer.sides[0] * config.tokenizer.sides[0];
  word = AddLinear("word_embed", width, config.tokenizer.code_dim);
  class_embedding = Add("class_emb.weight", {var.num_classes + 1, width});
  start_position = Add("pos_start", {1, first_tokens, width});
  position = Add("pos_1LC", {1, config.num_tokens(), width});
  level = Add("lvl_embed.weight", {config.num_scales(), width});
  if (var.shared_ada) shared_ada = AddLinear("shared_ada_lin.1", 6 * width, width);
  for (size_t block_index = 0; block_index < var.depth; ++block_index) AddBlock(var, block_index);
  head_ada = AddLinear("head_nm.ada_lin.1", 2 * width, width);
  head = AddLinear("head", config.tokenizer.codebook_size, width);
}

void ParameterLayout::AddBlock(const TransformerConfig& var, size_t block_index) {
  const size_t width = var.width;
  const std::string prefix = "blocks." + std::to_string(block_index) + ".";
  BlockPlaces places;
  if (var.l2_norm) places.scale_mul = Add(prefix + "attn.scale_mul_1H11", {1, var.num_heads, 1, 1}, block_index);
  places.q_bias = Add(prefix + "attn.q_bias", {width}, block_index);
  places.v_bias = Add(prefix + "attn.v_bias", {width}, block_index);
  places.qkv = {.weight = Add(prefix + "attn.mat_qkv.weight", {3 * width, width}, block_index),
                .bias = 0,
                .n = 3 * width,
                .k = width};
  places.proj = AddLinear(prefix + "attn.proj", width, width, block_index);
  places.fc1 = AddLinear(prefix + "ffn.fc1", var.mlp_width, width, block_index);
  places.fc2 = AddLinear(prefix + "ffn.fc2", width, var.mlp_width, block_index);
  if (var.shared_ada) {
    places.ada_offset = Add(prefix + "ada_gss", {1, 1, 6, width}, block_index);
  } else {
    places.ada = AddLinear(prefix + "ada_lin.1", 6 * width, width, block_index);
  }
  blocks.push_back(places);
}

size_t ParameterLayout::Add(std::string name, std::vector<size_t> shape, std::optional<size_t> block_index) {
  Parameter parameter;
  parameter.offset = size_;
  parameter.count = 1;
  for (const size_t side : shape) parameter.count *= side;
  parameter.decay = Decays(name, shape);
  parameter.block_index = block_index;
  parameter.name = std::move(name);
  parameter.shape = std::move(shape);
  size_ += (parameter.count + kAlignment - 1) / kAlignment * kAlignment;
  parameters_.push_back(std::move(parameter));
  return parameters_.back().offset;
}

LinearPlace ParameterLayout::AddLinear(const std::string& name, size_t n, size_t k, std::optional<size_t> block_index) {
  LinearPlace place{.weight = 0, .bias = 0, .n = n, .k = k};
  place.weight = Add(name + ".weight", {n, k}, block_index);
  place.bias = Add(name + ".bias", {n}, block_index);
  return place;
}

const Parameter& ParameterLayout::Find(std::string_view name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  NS_REQUIRE(found != parameters_.end(), ErrorCode::kInvalidArgument, "the transformer has no parameter \"", name,
             "\"");
  return *found;
}

}  // namespace nextscale
