// The way back through the attention of a teacher-forced pass: all scales of a sequence under the scale-causal rule.
//
// A row of qkv is q | k | v of one token (3C numbers). A sequence's rows stand scale after scale; a token of scale s
// sees every row of the scales up to and including s: the first ends[s] rows of its sequence. Scales at which a block
// does not run are simply not among its rows.
#pragma once

#include <cstddef>
#include <span>

namespace nextscale {

struct CausalSequence {
  size_t first_row = 0;          // in the compact matrices
  std::span<const size_t> ends = {};  // rows of the sequence up to the end of each of its scales, ascending
};

// In place on dqkv: from the gradient with respect to the normalised q and k to that of the raw ones; v's columns stay.
// dhead_factor[h] += Σ_rows dq · q / head_factor[h]. The result does not depend on the number of threads.
struct SplitHeadsGradientArgs {
  float* dqkv = nullptr;       // [M, qkv_stride]
  const float* qkv = nullptr;  // [M, qkv_stride], normalised
  size_t qkv_stride = 0;
  const float* inverse_norms = nullptr;
  size_t num_rows = 0;
  size_t num_heads = 0, head_dim = 0;
  const float* head_factor = nullptr;  // [H]
  float* dhead_factor = nullptr;       // [H]
};

// dqkv = gradient with respect to q | k | v (written, not added). Scores are recomputed in tiles, never stored whole.
// The result does not depend on the number of threads.
struct AttentionGradientArgs {
  float* dqkv = nullptr;        // [M, qkv_stride]
  const float* dout = nullptr;  // [M, out_stride]
  const float* out = nullptr;   // [M, out_stride]
  size_t out_stride = 0;
  const float* log_sums = nullptr;  // [M, H]
  const float* qkv = nullptr;
  size_t qkv_stride = 0;
  size_t num_heads = 0, head_dim = 0;
  float softmax_factor = 1.0f;
  std::span<const CausalSequence> sequences = {};
};

// head_factor[h] = exp(min(scale_mul[h], ln 100)) (reference: SelfAttention.scale_mul_1H11).
struct HeadFactorArgs {
  float* head_factor = nullptr;  // [H]
  const float* scale_mul = nullptr;
  size_t num_heads = 0;
};

// dscale_mul[h] += dhead_factor[h] · head_factor[h] where scale_mul[h] <= ln 100.
struct HeadFactorGradientArgs {
  float* dscale_mul = nullptr;  // [H]
  const float* dhead_factor = nullptr;
  const float* head_factor = nullptr;
  const float* scale_mul = nullptr;
  size_t num_heads = 0;
};

}  // namespace nextscale
