// Rows that the first block reads, and the condition that its modulations are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "native/ops/context.h"
#include "native/tensor/dtype.h"

namespace nextscale {

// x [branches · images · tokens, stride], branch after branch.
// With class_embedding (scale 0): x[row] = class_embedding[label] + start[token] + position[token].
// Without: the rows of the first branch hold the embedded input; position is added, and the other branch gets a copy.
struct EmbedArgs {
  float* x = nullptr;
  size_t stride = 0, width = 0;  // C
  size_t num_tokens = 0, num_images = 0, num_branches = 1;
  const float* position = nullptr;         // [tokens, C]
  const float* class_embedding = nullptr;  // [labels, C] or null
  const float* start = nullptr;            // [tokens, C], with class_embedding
  std::span<const int32_t> labels;         // [branches · images], with class_embedding
};
void Embed(Context& context, const EmbedArgs& args);

// out[i] = silu(class_embedding[labels[i]]): what modulation layers read.
struct LabelConditionArgs {
  void* out = nullptr;  // [labels, out_stride], activations
  DType out_dtype = DType::kF32;
  size_t out_stride = 0, width = 0;
  const float* class_embedding = nullptr;
  std::span<const int32_t> labels;
};
void LabelCondition(Context& context, const LabelConditionArgs& args);

// out[row, c] = in[row, c] + offset[c]
struct AddOffsetArgs {
  float* out = nullptr;
  size_t out_stride = 0;
  const float* in = nullptr;
  size_t in_stride = 0;
  const float* offset = nullptr;  // [width]
  size_t num_rows = 0, width = 0;
};
void AddOffset(Context& context, const AddOffsetArgs& args);

}  // namespace nextscale
