// Attention of one block: splitting q, k, v into heads with optional L2 normalisation, and one-pass attention over the
// keys and values that the block holds.
//
// A sequence's keys and values of one block live in rows of [K (C) | V (C)] numbers in the pool's format. Rows of
// cached scales are addressed by slot number in the pool's memory; the last scale's rows are a contiguous tail outside
// the pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "native/tensor/dtype.h"

namespace nextscale {

constexpr size_t kMaxAttentionWidth = size_t{1} << 20;  // C at most

// Where one sequence's keys and values of one block stand.
struct KvView {
  DType dtype = DType::kF32;
  std::byte* pool = nullptr;        // row of slot s at pool + s · 2·C·DTypeBytes(dtype)
  std::span<const uint32_t> slots = {};  // cached rows in token order (the current scale's too, unless it is in the tail)
  std::byte* tail = nullptr;        // rows after those of the slots
  size_t tail_rows = 0;
  size_t tail_stride = 0;  // numbers from one row of the tail to the next; 0: 2C
};

// One sequence's share of a block's batch.
struct AttentionSequence {
  size_t compact_row = 0;  // first row in qkv / out
  size_t num_rows = 0;     // L: tokens of the current scale
  KvView kv;               // the current scale's rows are the last num_rows of slots + tail
};

// Writes k and v of the current scale into their rows of kv, and q in place (columns 0..C-1 of qkv).
// qkv [M, qkv_stride >= 3C]: q | k | v with biases added already.
// With head_factor: q ← q/max(‖q‖,1e-12) · head_factor[h], k ← k/max(‖k‖,1e-12) per head (reference:
// SelfAttention.forward, F.normalize; head_factor = exp(min(scale_mul, ln 100)), computed by the caller). Without:
// unchanged.
struct SplitHeadsArgs {
  void* qkv = nullptr;
  DType dtype = DType::kF32;
  size_t qkv_stride = 0;
  size_t num_heads = 0, head_dim = 0;  // C = num_heads · head_dim
  const float* head_factor = nullptr;  // [H] or null
  float* inverse_norms =
      nullptr;  // kept for a way back (norm.h), with head_factor: 1/max(‖·‖,1e-12), q's heads, then k's, [M, 2H]
  std::span<const AttentionSequence> sequences = {};
};

// out[row, h·D..] = softmax(softmax_factor · q·Kᵀ) · V for each row and head, over every row of the sequence's kv. No
// mask. Online softmax: no score matrix. A row's result depends on its own sequence only (key blocks start at key 0).
struct AttentionArgs {
  void* out = nullptr;        // [M, out_stride >= C]; may not alias q
  DType dtype = DType::kF32;  // of out and q
  size_t out_stride = 0;
  const void* q = nullptr;  // [M, q_stride]
  size_t q_stride = 0;
  size_t num_heads = 0, head_dim = 0;  // head_dim 1..1024
  float softmax_factor = 1.0f;
  float* log_sums = nullptr;  // kept for a way back (norm.h): ln Σ exp(softmax_factor · q·k), [M, H]
  std::span<const AttentionSequence> sequences = {};
};

}  // namespace nextscale
