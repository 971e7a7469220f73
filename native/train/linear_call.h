// The two calls that the passes repeat.
#pragma once

#include <cmath>
#include <cstddef>

#include "native/model/config.h"
#include "native/ops/linear.h"

namespace nextscale {

// out = a · Wᵀ + bias
inline LinearArgs LinearCall(const PackedMatrix& weights, const float* bias, const float* a, size_t a_stride,
                             size_t num_rows, float* out, size_t out_stride) {
  LinearArgs args;
  args.out = out;
  args.out_stride = out_stride;
  args.a = a;
  args.a_stride = a_stride;
  args.num_rows = num_rows;
  args.weights = &weights;
  args.bias = bias;
  return args;
}

// 1 with L2-normalised heads, else 0.25 / √D (reference: SelfAttention).
inline float SoftmaxFactor(const TransformerConfig& config) {
  return config.l2_norm ? 1.0f : 0.25f / std::sqrt(static_cast<float>(config.width / config.num_heads));
}

}  // namespace nextscale
