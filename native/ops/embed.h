// Rows that the first block reads, and the condition that start tokens and modulations are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "native/tensor/dtype.h"

namespace nextscale {

// x [branches · images · tokens, stride], branch after branch.
// With starts (scale 0): x[row] = starts[conditions[sequence]] + start_position[token] + position[token].
// Without: the rows of the first branch hold the embedded input; position is added, and the other branch gets a copy.
struct EmbedArgs {
  float* x = nullptr;
  size_t stride = 0, width = 0;  // C
  size_t num_tokens = 0, num_images = 0, num_branches = 1;
  const float* position = nullptr;        // [tokens, C]
  const float* starts = nullptr;          // start token of every condition, [conditions, C], or null
  const float* start_position = nullptr;  // [tokens, C], with starts
  std::span<const int32_t> conditions = {};    // [branches · images], with starts
};

// start[i] = Σ_j weights[i, j] · embedding[rows[i, j]], j ascending from the first product; vector[i] = silu(start[i]): the start
// token, and what modulation layers read.
struct ConditionArgs {
  float* start = nullptr;  // [num, C]
  void* vector = nullptr;  // [num, C], activations
  DType vector_dtype = DType::kF32;
  size_t width = 0;                  // C
  const float* embedding = nullptr;  // [.., C]
  size_t num_mixed = 1;                   // rows of each condition
  std::span<const int32_t> rows = {};     // of embedding, [num, num_mixed]
  std::span<const float> weights = {};    // [num, num_mixed]; empty: all 1, and num_mixed is 1

  size_t num() const { return rows.size() / num_mixed; }
};

// out[row, c] = in[row, c] + offset[c]; out may be in.
struct AddOffsetArgs {
  float* out = nullptr;
  size_t out_stride = 0;
  const float* in = nullptr;
  size_t in_stride = 0;
  const float* offset = nullptr;  // [width]
  size_t num_rows = 0, width = 0;
};

}  // namespace nextscale
