#include "native/model/transformer.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"
#include "native/ops/norm.h"

namespace nextscale {
namespace {

constexpr size_t kRowsPerTask = 16;

}  // namespace

Transformer::Transformer(const ModelConfig& config, TransformerWeights weights, DType kv_dtype, size_t max_rows)
    : config_(config),
      schedule_(config.sides),
      weights_(std::move(weights)),
      kv_dtype_(kv_dtype),
      workspace_(config, max_rows) {
  spans_.reserve(max_rows);  // a sequence has at least one row
  attention_.reserve(max_rows);
}

void Transformer::Run(Context& context, Batch& batch) {
  NS_CHECK(batch.num_rows <= workspace_.max_rows());
  for (BatchGroup& group : batch.groups) {
    Embed(context, batch, group);
    KeepHidden(batch, group);
  }
  for (size_t block_index = 0; block_index < weights_.blocks.size(); ++block_index) {
    Gather(batch, block_index);
    RunBlock(context, config_.var, weights_.blocks[block_index], workspace_, spans_, attention_);
    for (BatchGroup& group : batch.groups) {
      if (!group.active || group.num_done == group.blocks.size() || group.blocks[group.num_done] != block_index)
        continue;
      ++group.num_done;
      KeepHidden(batch, group);
    }
  }
}

void Transformer::Embed(Context& context, const Batch& batch, const BatchGroup& group) {
  const size_t width = config_.var.width, stride = workspace_.width_stride();
  const size_t num_tokens = schedule_.tokens[group.scale_index],
               first_row = batch.sequences[group.first_sequence].x_row;
  const size_t branch_rows = group.num_images * num_tokens;
  float* const x = workspace_.x() + first_row * stride;
  if (group.input != nullptr) {
    LinearArgs args;
    args.out = x;
    args.out_stride = stride;
    args.a = group.input;
    args.a_stride = config_.vae.code_dim;
    args.num_rows = branch_rows;
    args.weights = &weights_.word.matrix;
    args.bias = weights_.word.bias.data();
    Linear(context, args);
  }
  // Adds positions. Both branches have the same input after scale 0; there, the label is the input.
  const size_t num_rows = group.input != nullptr ? branch_rows : branch_rows * group.num_branches;
  const float* const position = weights_.position.data() + schedule_.offsets[group.scale_index] * width;
  context.pool().ParallelFor((num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, size_t) {
    for (size_t row = task * kRowsPerTask; row < std::min(num_rows, (task + 1) * kRowsPerTask); ++row) {
      const size_t token = row % num_tokens;
      const float* const add = position + token * width;
      float* const out = x + row * stride;
      if (group.input != nullptr) {
        for (size_t column = 0; column < width; ++column) out[column] += add[column];
        if (group.num_branches == 2) std::copy_n(out, width, out + branch_rows * stride);
      } else {
        const size_t label = static_cast<size_t>(batch.sequences[group.first_sequence + row / num_tokens].label);
        const float* const class_row = weights_.class_embedding.data() + label * width;
        const float* const start = weights_.start_position.data() + token * width;
        for (size_t column = 0; column < width; ++column) out[column] = class_row[column] + start[column] + add[column];
      }
    }
  });
}

void Transformer::Gather(Batch& batch, size_t block_index) {
  spans_.clear();
  attention_.clear();
  size_t compact_row = 0;
  for (BatchGroup& group : batch.groups) {
    if (group.active && group.cancelled->load(std::memory_order_relaxed)) group.active = false;
    if (!group.active || group.num_done == group.blocks.size() || group.blocks[group.num_done] != block_index) continue;
    const size_t num_rows = schedule_.tokens[group.scale_index];
    for (size_t i = 0; i < group.num_sequences(); ++i) {
      const BatchSequence& sequence = batch.sequences[group.first_sequence + i];
      spans_.push_back(
          {compact_row, sequence.x_row, num_rows, group.modulations->Block(sequence.label_index, block_index)});
      AttentionSequence attention;
      attention.compact_row = compact_row;
      attention.num_rows = num_rows;
      attention.kv.dtype = kv_dtype_;
      attention.kv.pool = group.lease->pool().rows();
      attention.kv.slots = group.lease->Slots(block_index, sequence.lease_sequence);
      attention_.push_back(attention);
      compact_row += num_rows;
    }
  }
}

void Transformer::KeepHidden(const Batch& batch, const BatchGroup& group) const {
  if (group.hidden == nullptr) return;
  const size_t width = config_.var.width, num_rows = schedule_.tokens[group.scale_index];
  for (size_t i = 0; i < group.num_sequences(); ++i) {
    const BatchSequence& sequence = batch.sequences[group.first_sequence + i];
    float* out = group.hidden + (group.num_done * group.hidden_sequences + sequence.lease_sequence) * num_rows * width;
    for (size_t row = 0; row < num_rows; ++row) {
      std::copy_n(workspace_.x() + (sequence.x_row + row) * workspace_.width_stride(), width, out + row * width);
    }
  }
}

void Transformer::Head(Context& context, Batch& batch) {
  spans_.clear();
  size_t compact_row = 0;
  for (const BatchGroup& group : batch.groups) {
    if (!group.active) continue;
    const size_t num_rows = schedule_.tokens[group.scale_index];
    for (size_t i = 0; i < group.num_sequences(); ++i) {
      BatchSequence& sequence = batch.sequences[group.first_sequence + i];
      if (!sequence.needs_logits) continue;
      spans_.push_back({compact_row, sequence.x_row, num_rows, group.modulations->Head(sequence.label_index)});
      sequence.logits_row = compact_row;
      compact_row += num_rows;
    }
  }
  if (compact_row == 0) return;

  ModulatedNormArgs norm;
  norm.out = workspace_.compact();
  norm.out_stride = workspace_.width_stride();
  norm.x = workspace_.x();
  norm.x_stride = workspace_.width_stride();
  norm.width = config_.var.width;
  norm.spans = spans_;
  norm.gain_offset = 0;
  norm.shift_offset = config_.var.width;
  ModulatedNorm(context, norm);

  LinearArgs head;
  head.out = workspace_.wide();
  head.out_stride = workspace_.wide_stride();
  head.a = workspace_.compact();
  head.a_stride = workspace_.width_stride();
  head.num_rows = compact_row;
  head.weights = &weights_.head.matrix;
  head.bias = weights_.head.bias.data();
  Linear(context, head);
}

}  // namespace nextscale
