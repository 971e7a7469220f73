// All memory of a pass, taken once: what a block keeps for its way back, and the workspace that blocks share.
#pragma once

#include <cstddef>
#include <vector>

#include "native/model/config.h"
#include "native/tensor/buffer.h"

namespace nextscale {

struct PassOptions {
  size_t micro_batch = 1;      // images of a pass
  bool checkpointing = false;  // keep only each block's input; the block runs again on the way back
};

// What a block keeps, compact rows [M, ...]. `width` and `wide` are strides.
struct BlockActivations {
  Buffer normal1;             // [M, width]: x normalised, before modulation
  Buffer inverse_deviation1;  // [M]
  Buffer qkv;                 // [M, 3C]: q and k normalised per head
  Buffer inverse_norms;       // [M, 2H]
  Buffer attention;           // [M, width]
  Buffer log_sums;            // [M, H]
  Buffer projected;           // [M, width]: before the gate
  Buffer normal2;             // [M, width]
  Buffer inverse_deviation2;  // [M]
  Buffer hidden;              // [M, mlp]: before GELU
  Buffer out;                 // [M, width]: before the gate
};

class Activations {
 public:
  Activations(const ModelConfig& config, const PassOptions& options);

  static size_t Bytes(const ModelConfig& config, const PassOptions& options);

  // Activations of a block; with checkpointing all blocks share one set.
  BlockActivations& Block(size_t block_index) { return blocks_[blocks_.size() == 1 ? 0 : block_index]; }

  size_t rows = 0;          // M at most: micro_batch · num_tokens
  size_t width_stride = 0;  // C and padding: rows must not compete for the same cache lines
  size_t qkv_stride = 0, mlp_stride = 0, wide_stride = 0;

  std::vector<Buffer> block_inputs;  // [M, width] for every block; only with checkpointing
  Buffer x, dx;                      // [M, width]
  Buffer head_normal, head_inverse_deviation;
  Buffer narrow1, narrow2;           // [M, width]
  Buffer wide1, wide2;               // [M, max(3C, mlp, V)]
  Buffer input;                      // [M, E]: teacher input; rows of scale 0 are not used
  Buffer losses;                     // [M]
  Buffer condition, dcondition;      // [images, C]: silu(class embedding)
  Buffer modulations, dmodulations;  // [images, depth · 6C + 2C]
  Buffer modulation_sum;             // [images, 6C]; only with shared modulations
  Buffer token_sums;                 // [num_tokens, C]
  Buffer qkv_bias_gradient;          // [3C]
  Buffer head_factor_gradient;       // [H]
  size_t modulation_stride = 0;      // depth · 6C + 2C

 private:
  Activations() = default;

  std::vector<BlockActivations> blocks_;
};

}  // namespace nextscale
