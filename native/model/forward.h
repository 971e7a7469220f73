// The transformer's forward pass in three parts (embedding, block, head), for generation, scoring and training alike.
//
// x [rows, x_stride], f32, is the residual stream. A block gathers the rows of its spans into compact matrices of M
// rows and scatters its results back. What a way back needs is kept where a caller gives room for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "native/model/condition.h"
#include "native/model/config.h"
#include "native/model/weights.h"
#include "native/ops/backend.h"
#include "native/ops/rows.h"

namespace nextscale {

struct ResidualStream {
  float* x = nullptr;
  size_t stride = 0;
};

// Images that enter at tokens first_token .. + num_tokens; their rows of x follow each other, branch after branch.
struct EmbedRows {
  size_t first_token = 0, num_tokens = 0;
  size_t num_images = 1, num_branches = 1;
  const void* input = nullptr;  // activations [images · tokens, E], the same for every branch; null at the first scale,
  const Conditions* conditions = nullptr;  // where the start tokens of these are the input:
  std::span<const int32_t> condition_of = {};   // [branches · images]
};
// x = (word(input) or start token + its position) + level and position.
void EmbedTokens(Backend& backend, const TransformerWeights& weights, const EmbedRows& rows, const ResidualStream& to);

// Of a modulated norm, for the way back; null when nothing is kept.
struct KeptNorm {
  float* normal = nullptr;             // [M, width_stride]
  float* inverse_deviation = nullptr;  // [M]
};

// Where the results inside a block go. All but the kept ones are in activations.
struct BlockMemory {
  void* normed = nullptr;    // [M, width_stride >= C]: the input of qkv, then of fc1
  void* attended = nullptr;  // [M, width_stride]; may be `normed`
  void* qkv = nullptr;       // [M, qkv_stride >= 3C]
  void* hidden = nullptr;    // [M, mlp_stride >= mlp]; may be `qkv`
  size_t width_stride = 0, qkv_stride = 0, mlp_stride = 0;
  // Kept, or null:
  KeptNorm attention_norm = {}, mlp_norm = {};
  float* inverse_norms = nullptr;  // [M, 2H]; only with L2 norm
  float* log_sums = nullptr;       // [M, H]
  float* projected = nullptr;      // [M, width_stride]: attention's share of x, before its gate
  float* unactivated = nullptr;    // [M, mlp_stride]: before GELU
  float* out = nullptr;            // [M, width_stride]: the feed-forward layer's share of x, before its gate
};

// x += γ1 · proj(attention(LN(x)·(1+s1) + b1));  x += γ2 · fc2(gelu(fc1(LN(x)·(1+s2) + b2)))
// for the rows of `spans` (with this block's modulations, kNumChunks·C each). Keys and values of a sequence's own rows
// are written into the last rows of its kv.
void RunBlock(Backend& backend, const TransformerConfig& config, const BlockWeights& weights, const BlockMemory& memory,
              const ResidualStream& stream, std::span<const RowSpan> spans,
              std::span<const AttentionSequence> sequences);

struct HeadMemory {
  void* normed = nullptr;  // [M, width_stride], activations
  size_t width_stride = 0;
  float* logits = nullptr;  // [M, logits_stride >= V]
  size_t logits_stride = 0;
  KeptNorm norm = {};
};

// logits = head(LN(x)·(1+s) + b) for the rows of `spans` (with the head's modulations, kNumHeadChunks·C each).
void RunHead(Backend& backend, const TransformerConfig& config, const TransformerWeights& weights,
             const HeadMemory& memory, const ResidualStream& stream, std::span<const RowSpan> spans);

// What scores are multiplied with before the softmax: 1 with L2-normalised heads, else 0.25 / √D (reference:
// SelfAttention).
float SoftmaxFactor(const TransformerConfig& config);

}  // namespace nextscale
