// Attention as training runs it: all scales of a sequence at once under the scale-causal rule, and its gradient.
//
// A row of qkv is q | k | v of one token (3C numbers). A sequence's rows stand scale after scale; a token of scale s
// sees every row of the scales up to and including s: the first ends[s] rows of its sequence. Scales at which a block
// does not run are simply not among its rows.
#pragma once

#include <cstddef>
#include <span>

#include "native/ops/context.h"

namespace nextscale {

struct CausalSequence {
  size_t first_row = 0;          // in the compact matrices
  std::span<const size_t> ends;  // rows of the sequence up to the end of each of its scales, ascending
};

// In place, per head: q ← q / max(‖q‖, 1e-12) · head_factor[h], k ← k / max(‖k‖, 1e-12); 1 / max(‖·‖, 1e-12) is kept
// (reference: SelfAttention.forward with attn_l2_norm).
struct NormalizeHeadsArgs {
  float* qkv = nullptr;            // [M, qkv_stride >= 3C]
  size_t qkv_stride = 0;
  float* inverse_norms = nullptr;  // [M, 2H]: q's heads, then k's
  size_t num_rows = 0;
  size_t num_heads = 0, head_dim = 0;
  const float* head_factor = nullptr;  // [H]
};
void NormalizeHeads(Context& context, const NormalizeHeadsArgs& args);

// In place on dqkv: from the gradient with respect to the normalised q and k to that of the raw ones; v's columns stay.
// dhead_factor[h] += Σ_rows dq · q / head_factor[h]. The result does not depend on the number of threads.
struct NormalizeHeadsGradientArgs {
  float* dqkv = nullptr;       // [M, qkv_stride]
  const float* qkv = nullptr;  // [M, qkv_stride], normalised
  size_t qkv_stride = 0;
  const float* inverse_norms = nullptr;
  size_t num_rows = 0;
  size_t num_heads = 0, head_dim = 0;
  const float* head_factor = nullptr;  // [H]
  float* dhead_factor = nullptr;       // [H]
};
void NormalizeHeadsGradient(Context& context, const NormalizeHeadsGradientArgs& args);

// out[row, h·D..] = softmax(softmax_factor · q·Kᵀ) · V over the rows that this one sees.
// log_sums[row, h] = ln Σ exp(softmax_factor · q·k): all that the backward pass needs to make the weights again.
struct CausalAttentionArgs {
  float* out = nullptr;       // [M, out_stride >= C]
  size_t out_stride = 0;
  float* log_sums = nullptr;  // [M, H] or null
  const float* qkv = nullptr;
  size_t qkv_stride = 0;
  size_t num_heads = 0, head_dim = 0;
  float softmax_factor = 1.0f;
  std::span<const CausalSequence> sequences;
};
void CausalAttention(Context& context, const CausalAttentionArgs& args);

// dqkv = gradient with respect to q | k | v (written, not added). Scores are recomputed in tiles, never stored whole.
// The result does not depend on the number of threads.
struct CausalAttentionGradientArgs {
  float* dqkv = nullptr;       // [M, qkv_stride]
  const float* dout = nullptr;  // [M, out_stride]
  const float* out = nullptr;   // [M, out_stride]
  size_t out_stride = 0;
  const float* log_sums = nullptr;  // [M, H]
  const float* qkv = nullptr;
  size_t qkv_stride = 0;
  size_t num_heads = 0, head_dim = 0;
  float softmax_factor = 1.0f;
  std::span<const CausalSequence> sequences;
};
void CausalAttentionGradient(Context& context, const CausalAttentionGradientArgs& args);

}  // namespace nextscale
