#include "native/model/transformer.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"

namespace nextscale {
namespace {

// Rows a power of two apart would meet in the same cache sets.
constexpr size_t kPadding = 16;  // numbers: a cache line of f32
constexpr const char* kWhat = "the workspace of a step";

}  // namespace

Workspace::Workspace(Backend& backend, const ModelConfig& config, size_t max_rows)
    : max_rows_(max_rows), width_stride_(config.transformer.width + kPadding) {
  const size_t wide_stride = std::max(3 * config.transformer.width, config.transformer.mlp_width) + kPadding;
  const size_t logits_stride = config.tokenizer.codebook_size + kPadding,
               number = DTypeBytes(backend.activation_dtype());
  x_ = backend.Allocate(max_rows * width_stride_ * sizeof(float), kWhat);
  compact_ = backend.Allocate(max_rows * width_stride_ * number, kWhat);
  wide_ = backend.Allocate(max_rows * std::max(wide_stride * number, logits_stride * sizeof(float)), kWhat);
  block_ = {.normed = compact_.data(),
            .attended = compact_.data(),
            .qkv = wide_.data(),
            .hidden = wide_.data(),
            .width_stride = width_stride_,
            .qkv_stride = wide_stride,
            .mlp_stride = wide_stride};
  head_ = {.normed = compact_.data(),
           .width_stride = width_stride_,
           .logits = wide_.as<float>(),
           .logits_stride = logits_stride};
}

Transformer::Transformer(Backend& backend, const ModelConfig& config, TransformerWeights weights, DType kv_dtype,
                         size_t max_rows)
    : backend_(backend),
      config_(config),
      schedule_(config.tokenizer.sides),
      weights_(std::move(weights)),
      kv_dtype_(kv_dtype),
      workspace_(backend, config, max_rows) {
  spans_.reserve(max_rows);  // a sequence has at least one row
  attention_.reserve(max_rows);
  conditions_.reserve(max_rows);
}

void Transformer::Run(Batch& batch) {
  NS_CHECK(batch.num_rows <= workspace_.max_rows());
  for (BatchGroup& group : batch.groups) {
    Embed(batch, group);
    KeepHidden(batch, group);
  }
  backend_.Section();
  for (size_t block_index = 0; block_index < weights_.blocks.size(); ++block_index) {
    Gather(batch, block_index);
    RunBlock(backend_, config_.transformer, weights_.blocks[block_index], workspace_.block(), workspace_.stream(),
             spans_, attention_);
    for (BatchGroup& group : batch.groups) {
      if (!group.active || group.num_done == group.blocks.size() || group.blocks[group.num_done] != block_index)
        continue;
      ++group.num_done;
      KeepHidden(batch, group);
    }
  }
}

void Transformer::Embed(const Batch& batch, const BatchGroup& group) {
  const std::span sequences(batch.sequences.data() + group.first_sequence, group.num_sequences());
  conditions_.clear();
  for (const BatchSequence& sequence : sequences) conditions_.push_back(static_cast<int32_t>(sequence.condition));
  const ResidualStream stream = workspace_.stream();
  EmbedTokens(backend_, weights_,
              {.first_token = schedule_.offsets[group.scale_index],
               .num_tokens = schedule_.tokens[group.scale_index],
               .num_images = group.num_images,
               .num_branches = group.num_branches,
               .input = group.input,
               .conditions = group.conditions,
               .condition_of = conditions_},
              {stream.x + sequences.front().x_row * stream.stride, stream.stride});
}

void Transformer::Gather(Batch& batch, size_t block_index) {
  spans_.clear();
  attention_.clear();
  size_t compact_row = 0;
  for (BatchGroup& group : batch.groups) {
    if (group.active && group.cancelled->IsSet()) group.active = false;
    if (!group.active || group.num_done == group.blocks.size() || group.blocks[group.num_done] != block_index) continue;
    const size_t num_rows = schedule_.tokens[group.scale_index];
    for (size_t i = 0; i < group.num_sequences(); ++i) {
      const BatchSequence& sequence = batch.sequences[group.first_sequence + i];
      spans_.push_back(
          {compact_row, sequence.x_row, num_rows, group.modulations->Block(sequence.condition, block_index)});
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

// For tests: a copy and a wait for every row.
void Transformer::KeepHidden(const Batch& batch, const BatchGroup& group) {
  if (group.hidden == nullptr) return;
  const size_t width = config_.transformer.width, num_rows = schedule_.tokens[group.scale_index];
  for (size_t i = 0; i < group.num_sequences(); ++i) {
    const BatchSequence& sequence = batch.sequences[group.first_sequence + i];
    float* out = group.hidden + (group.num_done * group.hidden_sequences + sequence.lease_sequence) * num_rows * width;
    for (size_t row = 0; row < num_rows; ++row) {
      const float* const from = workspace_.stream().x + (sequence.x_row + row) * workspace_.stream().stride;
      backend_.Download(out + row * width, from, width * sizeof(float));
    }
  }
  backend_.Wait();
}

void Transformer::Head(Batch& batch) {
  spans_.clear();
  size_t compact_row = 0;
  for (const BatchGroup& group : batch.groups) {
    if (!group.active) continue;
    const size_t num_rows = schedule_.tokens[group.scale_index];
    for (size_t i = 0; i < group.num_sequences(); ++i) {
      BatchSequence& sequence = batch.sequences[group.first_sequence + i];
      if (!sequence.needs_logits) continue;
      spans_.push_back({compact_row, sequence.x_row, num_rows, group.modulations->Head(sequence.condition)});
      sequence.logits_row = compact_row;
      compact_row += num_rows;
    }
  }
  if (compact_row == 0) return;
  RunHead(backend_, config_.transformer, weights_, workspace_.head(), workspace_.stream(), spans_);
  backend_.Section();
}

}  // namespace nextscale
