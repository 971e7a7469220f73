// All memory of a pass, taken once: what a block keeps for its way back, and the workspace that blocks share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/model/config.h"
#include "native/model/forward.h"
#include "native/ops/training_backend.h"
#include "native/tensor/buffer.h"

namespace nextscale {

struct PassOptions {
  size_t micro_batch = 1;      // images of a pass
  bool checkpointing = false;  // keep only each block's input; the block runs again on the way back
};

class Activations {
 public:
  Activations(TrainingBackend& backend, const ModelConfig& config, const PassOptions& options);

  static size_t Bytes(const ModelConfig& config, const PassOptions& options);

  // Where a block's results go, kept ones and workspace; with checkpointing all blocks share what they keep.
  BlockMemory Block(size_t block_index) const;
  HeadMemory Head() const;
  ResidualStream stream() const { return {x.as<float>(), width_stride}; }

  size_t width_stride = 0;  // C and padding: rows must not compete for the same cache lines
  size_t qkv_stride = 0, mlp_stride = 0, wide_stride = 0;

  // M = micro_batch · num_tokens rows.
  std::vector<Buffer> block_inputs;  // [M, width] for every block; only with checkpointing
  Buffer x, dx;                      // [M, width]
  Buffer head_normal, head_inverse_deviation;
  Buffer narrow1, narrow2;      // [M, width]
  Buffer wide1, wide2;          // [M, max(3C, mlp, V)]
  Buffer tokens;                // int32 [M]
  Buffer input;                 // [M, E]: teacher input; rows of scale 0 are not used
  Buffer f_hat;                 // [P², E]
  Buffer losses;                // [M]
  Buffer dstarts, dvectors;     // [images, C]: of the conditions
  Buffer dmodulations;          // as Modulations
  Buffer dshared;               // [images, 6C]; only with shared modulations
  Buffer token_sums;            // [num_tokens, C]
  Buffer qkv_bias_gradient;     // [3C]
  Buffer head_factor_gradient;  // [H]

 private:
  // What a block keeps, compact rows [M, ...]; see BlockMemory.
  struct Kept {
    Buffer normal1, inverse_deviation1, qkv, inverse_norms, attended, log_sums, projected;
    Buffer normal2, inverse_deviation2, unactivated, out;
  };
  class Planner;

  Activations(const ModelConfig& config);
  void PlanShared(Planner& planner, const ModelConfig& config, const PassOptions& options);
  void PlanBlock(Planner& planner, const TransformerConfig& config, Kept& kept) const;

  std::vector<Kept> kept_;
};

}  // namespace nextscale
