#include "native/model/modulation.h"

namespace nextscale {
namespace {

constexpr const char* kWhat = "modulations";

size_t SharedFloats(const TransformerConfig& config, size_t most) {
  return config.shared_ada ? most * kNumChunks * config.width : 0;
}

size_t Floats(const TransformerConfig& config, size_t most) {
  return most * (config.depth * kNumChunks + kNumHeadChunks) * config.width;
}

}  // namespace

Modulations::Modulations(Backend& backend, const TransformerConfig& config, size_t most)
    : width_(config.width),
      num_blocks_(config.depth),
      values_(backend.Allocate(Floats(config, most) * sizeof(float), kWhat)),
      shared_(backend.Allocate(SharedFloats(config, most) * sizeof(float), kWhat)) {}

size_t Modulations::Bytes(const TransformerConfig& config, size_t most) {
  return (Floats(config, most) + SharedFloats(config, most)) * sizeof(float);
}

void Modulations::Make(Backend& backend, const TransformerWeights& weights, const Conditions& conditions) {
  const size_t chunks = kNumChunks * width_;
  const auto apply = [&](const LinearWeights& layer, float* out, size_t out_stride) {
    backend.Linear({.out = out,
                    .out_stride = out_stride,
                    .a = conditions.vectors(),
                    .a_dtype = backend.activation_dtype(),
                    .a_stride = width_,
                    .num_rows = conditions.size(),
                    .weights = &layer.matrix,
                    .bias = layer.bias.as<float>()});
  };
  const bool shared = weights.shared_ada.matrix.n != 0;
  if (shared) apply(weights.shared_ada, shared_.as<float>(), chunks);
  for (size_t block_index = 0; block_index < num_blocks_; ++block_index) {
    const BlockWeights& block = weights.blocks[block_index];
    if (!shared) {
      apply(block.ada, Block(0, block_index), stride());
      continue;
    }
    backend.AddOffset({.out = Block(0, block_index),
                       .out_stride = stride(),
                       .in = shared_.as<float>(),
                       .in_stride = chunks,
                       .offset = block.ada_offset.as<float>(),
                       .num_rows = conditions.size(),
                       .width = chunks});
  }
  apply(weights.head_ada, Head(0), stride());
}

}  // namespace nextscale
