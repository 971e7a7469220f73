#include "native/train/initialize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

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

void Scale(float* values, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) values[i] *= factor;
}

// Chunks of width C: the gates come first.
void ScaleModulation(float* weights, size_t num_gates, size_t num_chunks, size_t chunk) {
  Scale(weights, num_gates * chunk, 1e-5f);
  Scale(weights + num_gates * chunk, (num_chunks - num_gates) * chunk, 0.5f);
}

}  // namespace

void Initialize(const ModelConfig& config, const ParameterLayout& layout, uint64_t seed, float* weights) {
  const size_t width = config.transformer.width;
  const float deviation = std::sqrt(1.0f / (3.0f * static_cast<float>(width)));
  for (size_t i = 0; i < layout.all().size(); ++i) {
    const Parameter& parameter = layout.all()[i];
    float* const values = weights + parameter.offset;
    const std::string_view name = parameter.name;
    if (name.ends_with("bias")) {
      std::fill_n(values, parameter.count, 0.0f);
    } else if (name.ends_with("scale_mul_1H11")) {
      std::fill_n(values, parameter.count, std::log(4.0f));
    } else {
      const float factor = name.ends_with("ada_gss") ? 1.0f / std::sqrt(static_cast<float>(width)) : deviation;
      for (size_t j = 0; j < parameter.count; ++j) values[j] = factor * TruncatedNormal(seed, i, j);
    }
  }
  const float last_layer = 1.0f / std::sqrt(2.0f * static_cast<float>(config.transformer.depth));
  for (const BlockPlaces& block : layout.blocks) {
    Scale(weights + block.proj.weight, block.proj.n * block.proj.k, last_layer);
    Scale(weights + block.fc2.weight, block.fc2.n * block.fc2.k, last_layer);
    if (config.transformer.shared_ada) {
      ScaleModulation(weights + block.ada_offset, 2, 6, width);
    } else {
      ScaleModulation(weights + block.ada.weight, 2, 6, width * width);
    }
  }
  // The head's modulation has no gates.
  ScaleModulation(weights + layout.head_ada.weight, 0, 2, width * width);
  Scale(weights + layout.head.weight, layout.head.n * layout.head.k, 0.02f);
}

}  // namespace nextscale
