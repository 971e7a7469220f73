// One adaptive-norm attention block over a ragged batch of sequences.
#pragma once

#include <cstddef>
#include <span>

#include "native/model/config.h"
#include "native/model/weights.h"
#include "native/ops/backend.h"
#include "native/ops/rows.h"
#include "native/tensor/buffer.h"

namespace nextscale {

// Every buffer of a step, planned once for the largest batch. On the CPU, rows never used cost no resident memory.
class Workspace {
 public:
  Workspace(Backend& backend, const ModelConfig& config, size_t max_rows);

  size_t max_rows() const { return max_rows_; }
  // Strides carry a small padding: rows a power of two apart would meet in the same cache sets.
  size_t width_stride() const { return width_stride_; }
  size_t wide_stride() const { return wide_stride_; }
  size_t logits_stride() const { return logits_stride_; }
  DType dtype() const { return dtype_; }  // of compact and wide
  float* x() const { return x_.as<float>(); }    // [max_rows, C]: the residual stream of all sequences
  void* compact() const { return compact_.data(); }  // [max_rows, C]: normed rows of a block, then attention's output
  void* wide() const { return wide_.data(); }        // [max_rows, max(3C, mlp)]: qkv, hidden layer
  float* logits() const { return wide_.as<float>(); }  // [max_rows, V], in wide's place

 private:
  size_t max_rows_, width_stride_, wide_stride_, logits_stride_;
  DType dtype_;
  Buffer x_, compact_, wide_;
};

// x += γ1 · proj(attention(LN(x)·(1+s1) + b1));  x += γ2 · fc2(gelu(fc1(LN(x)·(1+s2) + b2)))
// for the rows of `spans` (with this block's modulations, kNumChunks·C each); sequences[i] belongs to spans[i].
// Keys and values of the current scale are written into the sequences' last rows.
void RunBlock(Backend& backend, const TransformerConfig& config, const BlockWeights& weights, const Workspace& workspace,
              std::span<const RowSpan> spans, std::span<const AttentionSequence> sequences);

}  // namespace nextscale
