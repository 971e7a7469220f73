#include "native/train/initialize.h"

#include <cmath>
#include <numbers>
#include <span>

#include "native/base/rng.h"

namespace nextscale {
namespace {

// Normal numbers cut at two deviations, by rejection: attempt after attempt of one element's own stream.
float TruncatedNormal(uint64_t seed, uint64_t parameter, uint64_t index) {
  for (uint32_t attempt = 0;; ++attempt) {
    const double u1 = 1.0 - UniformDraw(seed, index, static_cast<uint32_t>(parameter), 2 * attempt);  // (0, 1]
    const double u2 = UniformDraw(seed, index, static_cast<uint32_t>(parameter), 2 * attempt + 1);
    const double value = std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * std::numbers::pi * u2);
    if (std::abs(value) <= 2.0) return static_cast<float>(value);
  }
}

void Scale(std::span<float> values, float factor) {
  for (float& value : values) value *= factor;
}

// Chunks of width C: the gates come first.
void ScaleModulation(std::span<float> weights, size_t num_gates, size_t num_chunks) {
  const size_t gates = weights.size() / num_chunks * num_gates;
  Scale(weights.first(gates), 1e-5f);
  Scale(weights.subspan(gates), 0.5f);
}

}  // namespace

std::vector<float> InitialValues(const ModelConfig& config, const TransformerTensors& list, size_t tensor,
                                 uint64_t seed) {
  const size_t width = config.transformer.width, count = list.all[tensor].num_elements();
  const float root = std::sqrt(static_cast<float>(width));
  const std::optional<size_t> block_index = list.all[tensor].block_index;
  const BlockTensors* const block = block_index ? &list.blocks[*block_index] : nullptr;
  const bool is_offset = block != nullptr && config.transformer.shared_ada && tensor == block->ada_offset;
  if (list.all[tensor].shape.size() == 1) return std::vector<float>(count, 0.0f);  // a bias
  if (block != nullptr && config.transformer.l2_norm && tensor == block->scale_mul) {
    return std::vector<float>(count, std::log(4.0f));
  }
  std::vector<float> values(count);
  const float deviation = is_offset ? 1.0f / root : std::sqrt(1.0f / (3.0f * static_cast<float>(width)));
  for (size_t i = 0; i < count; ++i) values[i] = deviation * TruncatedNormal(seed, tensor, i);
  if (is_offset) {
    ScaleModulation(values, 2, 6);
  } else if (block != nullptr && !config.transformer.shared_ada && tensor == block->ada.weight) {
    ScaleModulation(values, 2, 6);
  } else if (block != nullptr && (tensor == block->proj.weight || tensor == block->fc2.weight)) {
    Scale(values, 1.0f / std::sqrt(2.0f * static_cast<float>(config.transformer.depth)));
  } else if (tensor == list.head_ada.weight) {
    ScaleModulation(values, 0, 2);  // no gates
  } else if (tensor == list.head.weight) {
    Scale(values, 0.02f);
  }
  return values;
}

}  // namespace nextscale
