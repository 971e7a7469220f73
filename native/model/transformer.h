// One step of the transformer: a ragged batch of sequences, each standing before its own scale at its own depth.
//
// A sequence is one guidance branch of one image. Sequences of one generation form a group: same scale, same subnet,
// and they leave together when the generation is cancelled. At a block that only some groups run, the batch is those
// groups; a row's result does not depend on who else is in the batch (the ops promise it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/base/cancel.h"
#include "native/cache/kv_lease.h"
#include "native/model/forward.h"
#include "native/model/modulation.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

struct BatchSequence {
  size_t condition = 0;       // in the group's conditions and modulations
  size_t lease_sequence = 0;  // in the group's lease
  size_t x_row = 0;           // first of side² rows in the workspace's x
  bool needs_logits = false;
  size_t logits_row = 0;  // set by Head
};

struct BatchGroup {
  size_t scale_index = 0;
  std::span<const uint32_t> blocks;  // the subnet at this scale
  const KvLease* lease = nullptr;    // has begun this scale
  const Conditions* conditions = nullptr;
  const Modulations* modulations = nullptr;  // theirs
  const CancelFlag* cancelled = nullptr;
  const void* input = nullptr;  // activations [images, side², E]; null at scale 0, where the condition is the input
  size_t first_sequence = 0;    // in the batch: conditional branches of all images, then unconditional ones
  size_t num_images = 0, num_branches = 1;
  float* hidden = nullptr;  // host; null, or [1 + blocks, hidden_sequences, side², C]: x before and after each block
  size_t hidden_sequences = 0;

  bool active = true;   // set false by Run when it saw `cancelled`; x of its rows is then undefined
  size_t num_done = 0;  // blocks run so far

  size_t num_sequences() const { return num_images * num_branches; }
};

struct Batch {
  std::vector<BatchGroup> groups;
  std::vector<BatchSequence> sequences;
  size_t num_rows = 0;

  void Clear() {
    groups.clear();
    sequences.clear();
    num_rows = 0;
  }
};

// Every buffer of a step, planned once for the largest batch. On the CPU, rows never used cost no resident memory.
class Workspace {
 public:
  Workspace(Backend& backend, const ModelConfig& config, size_t max_rows);

  size_t max_rows() const { return max_rows_; }
  ResidualStream stream() const { return {x_.as<float>(), width_stride_}; }  // of all sequences
  const BlockMemory& block() const { return block_; }
  const HeadMemory& head() const { return head_; }  // the logits stand where a block's qkv and hidden layer do

 private:
  size_t max_rows_, width_stride_;
  Buffer x_, compact_, wide_;
  BlockMemory block_;
  HeadMemory head_;
};

class Transformer {
 public:
  // max_rows: of one batch.
  Transformer(Backend& backend, const ModelConfig& config, TransformerWeights weights, DType kv_dtype, size_t max_rows);

  const TransformerWeights& weights() const { return weights_; }
  size_t max_rows() const { return workspace_.max_rows(); }
  // Bytes of a pool row: one token's key and value in one block.
  size_t kv_row_bytes() const { return 2 * config_.transformer.width * DTypeBytes(kv_dtype_); }

  // Embeds the input of every group and runs all blocks.
  void Run(Batch& batch);
  // Logits of every sequence of an active group that needs them; valid until the next Run.
  void Head(Batch& batch);
  float* logits(size_t logits_row) const {
    return workspace_.head().logits + logits_row * workspace_.head().logits_stride;
  }
  size_t logits_stride() const { return workspace_.head().logits_stride; }

 private:
  void Embed(const Batch& batch, const BatchGroup& group);
  // Fills spans_ and attention_ with the groups that run this block.
  void Gather(Batch& batch, size_t block_index);
  void KeepHidden(const Batch& batch, const BatchGroup& group);

  Backend& backend_;
  ModelConfig config_;
  ScaleSchedule schedule_;
  TransformerWeights weights_;
  DType kv_dtype_;
  Workspace workspace_;
  std::vector<RowSpan> spans_;
  std::vector<AttentionSequence> attention_;
  std::vector<int32_t> conditions_;  // of a group's sequences
};

}  // namespace nextscale
