// Adaptive-norm modulations. They depend on the condition only, so a generation computes them once, for its distinct
// conditions.
#pragma once

#include <cstddef>

#include "native/model/condition.h"
#include "native/model/config.h"
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

// Of the head's: it has no gate.
enum HeadChunk : size_t { kHeadGain, kHeadShift, kNumHeadChunks };

// A condition's modulations: those of every block, then the head's.
class Modulations {
 public:
  // Room for `most` conditions. Throws Error(kOutOfMemory).
  Modulations(Backend& backend, const TransformerConfig& config, size_t most);
  static size_t Bytes(const TransformerConfig& config, size_t most);

  // Issues. v = the condition's vector; of a block: ada(v), or its offset + shared_ada(v); of the head: head_ada(v).
  void Make(Backend& backend, const TransformerWeights& weights, const Conditions& conditions);

  // Numbers from one condition's to the next one's.
  size_t stride() const { return (num_blocks_ * kNumChunks + kNumHeadChunks) * width_; }
  float* Block(size_t condition, size_t block_index) const {  // [6C]; one past the last block: the head's [2C]
    return values_.as<float>() + condition * stride() + block_index * kNumChunks * width_;
  }
  float* Head(size_t condition) const { return Block(condition, num_blocks_); }

 private:
  size_t width_, num_blocks_;
  Buffer values_;  // [conditions, stride]
  Buffer shared_;  // [conditions, 6C]; only with shared modulations
};

}  // namespace nextscale
