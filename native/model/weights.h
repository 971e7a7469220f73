// The transformer's parameters (tensors.h), packed for a device.
//
// The device decides the number format of matrices; everything small is widened to f32. Tensors are read one by one and
// packed at once, so that loading needs hardly more resident memory than the weights themselves.
#pragma once

#include <functional>
#include <vector>

#include "native/model/config.h"
#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

struct LinearWeights {
  PackedMatrix matrix;
  Buffer bias;  // f32 [N]
};

struct BlockWeights {
  LinearWeights qkv;       // [3C, C]; bias: q | 0 | v
  LinearWeights proj;      // [C, C]
  LinearWeights fc1, fc2;  // [mlp, C], [C, mlp]
  LinearWeights ada;       // [6C, C]; empty with shared modulations
  Buffer ada_offset;       // f32 [6C]; only with shared modulations
  Buffer head_factor;      // f32 [H]: exp(min(scale_mul, ln 100)); empty without L2 norm
};

struct TransformerWeights {
  Buffer class_embedding;    // f32 [num_classes + 1, C]
  Buffer start_position;     // f32 [side_0², C]
  Buffer position;           // f32 [num_tokens, C]: level embedding + position embedding
  LinearWeights word;        // [C, E]
  LinearWeights shared_ada;  // [6C, C]; only with shared modulations
  std::vector<BlockWeights> blocks;
  LinearWeights head_ada;  // [2C, C]
  LinearWeights head;      // [V, C]
};

// Throws Error(kInvalidCheckpoint) for a missing tensor or a wrong shape, kNotFinite for NaN or infinity, both with its
// name. progress: bytes packed so far, on the calling thread.
TransformerWeights LoadTransformer(const ModelConfig& config, const TensorTable& tensors, Backend& backend,
                                   const std::function<void(size_t bytes)>& progress);

// Bytes that LoadTransformer will read.
size_t TransformerBytes(const ModelConfig& config, const TensorTable& tensors);

}  // namespace nextscale
