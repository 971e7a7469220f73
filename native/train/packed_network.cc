#include "native/train/packed_network.h"

#include <algorithm>
#include <cmath>

#include "native/ops/linear_gradient.h"

namespace nextscale {

PackedLinear::PackedLinear(const LinearPlace& place, bool needs_backward)
    : forward(MakePackedMatrix(place.n, place.k)) {
  if (needs_backward) backward = MakePackedMatrix(place.k, place.n);
}

void PackedLinear::Repack(Context& context, const LinearPlace& place, const float* weights) {
  nextscale::Repack(context, weights + place.weight, forward);
  if (backward.n != 0) RepackTransposed(context, weights + place.weight, backward);
}

PackedNetwork::PackedNetwork(const ModelConfig& config, const ParameterLayout& layout)
    : word(layout.word, false),
      head_ada(layout.head_ada, true),
      head(layout.head, true),
      config_(config),
      layout_(layout) {
  if (layout.shared_ada.n != 0) shared_ada = PackedLinear(layout.shared_ada, true);
  for (const BlockPlaces& places : layout.blocks) {
    PackedBlock& block = blocks.emplace_back();
    block.qkv = PackedLinear(places.qkv, true);
    block.proj = PackedLinear(places.proj, true);
    block.fc1 = PackedLinear(places.fc1, true);
    block.fc2 = PackedLinear(places.fc2, true);
    if (!config.transformer.shared_ada) block.ada = PackedLinear(places.ada, true);
    block.qkv_bias.resize(3 * config.transformer.width);
    if (config.transformer.l2_norm) block.head_factor.resize(config.transformer.num_heads);
  }
}

void PackedNetwork::Repack(Context& context, const float* weights) {
  const size_t width = config_.transformer.width;
  word.Repack(context, layout_.word, weights);
  head_ada.Repack(context, layout_.head_ada, weights);
  head.Repack(context, layout_.head, weights);
  if (layout_.shared_ada.n != 0) shared_ada.Repack(context, layout_.shared_ada, weights);
  const float limit = std::log(100.0f);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockPlaces& places = layout_.blocks[i];
    PackedBlock& block = blocks[i];
    block.qkv.Repack(context, places.qkv, weights);
    block.proj.Repack(context, places.proj, weights);
    block.fc1.Repack(context, places.fc1, weights);
    block.fc2.Repack(context, places.fc2, weights);
    if (!config_.transformer.shared_ada) block.ada.Repack(context, places.ada, weights);
    std::copy_n(weights + places.q_bias, width, block.qkv_bias.data());
    std::copy_n(weights + places.v_bias, width, block.qkv_bias.data() + 2 * width);
    for (size_t h = 0; h < block.head_factor.size(); ++h) {
      block.head_factor[h] = std::exp(std::min(weights[places.scale_mul + h], limit));
    }
  }
}

size_t PackedNetworkBytes(const ModelConfig& config) {
  const TransformerConfig& var = config.transformer;
  const size_t width = var.width, ada = 6 * width * width;
  const size_t block = 4 * width * width + 2 * width * var.mlp_width + (var.shared_ada ? 0 : ada);
  const size_t twice =
      var.depth * block + (var.shared_ada ? ada : 0) + 2 * width * width + config.tokenizer.codebook_size * width;
  return (2 * twice + width * config.tokenizer.code_dim) * sizeof(float);
}

}  // namespace nextscale
