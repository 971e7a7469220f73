// Adaptive-norm modulations. They depend on the label only, so a generation computes them once, for its distinct
// labels.
#pragma once

#include <cstdint>
#include <vector>

#include "native/model/weights.h"
#include "native/tensor/buffer.h"

namespace nextscale {

// Chunks of a block's modulation, in the reference's order; each is C wide.
enum ModulationChunk : size_t {
  kAttentionGate,
  kMlpGate,
  kAttentionGain,
  kMlpGain,
  kAttentionShift,
  kMlpShift,
  kNumChunks
};

class Modulations {
 public:
  // labels: in any order, repeats allowed.
  Modulations(Backend& backend, const TransformerWeights& weights, size_t width, const std::vector<int32_t>& labels);

  // [6C], chunks as above; c = class_embedding[label]: ada(silu(c)), or offset + shared_ada(silu(c)).
  const float* Block(size_t label_index, size_t block_index) const {
    return blocks_.as<float>() + (label_index * num_blocks_ + block_index) * kNumChunks * width_;
  }
  const float* Head(size_t label_index) const {
    return head_.as<float>() + label_index * 2 * width_;
  }  // [2C]: gain, shift
  size_t IndexOf(int32_t label) const;

 private:
  size_t width_, num_blocks_;
  std::vector<int32_t> labels_;  // distinct, ascending
  Buffer blocks_;                // [labels, N, 6C]
  Buffer head_;                  // [labels, 2C]
};

}  // namespace nextscale
