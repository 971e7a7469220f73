#include "native/model/transformer.h"

#include <utility>

#include "native/base/error.h"

namespace nextscale {
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
  labels_.reserve(max_rows);
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
    RunBlock(backend_, config_.transformer, weights_.blocks[block_index], workspace_, spans_, attention_);
    for (BatchGroup& group : batch.groups) {
      if (!group.active || group.num_done == group.blocks.size() || group.blocks[group.num_done] != block_index)
        continue;
      ++group.num_done;
      KeepHidden(batch, group);
    }
  }
}

void Transformer::Embed(const Batch& batch, const BatchGroup& group) {
  const size_t width = config_.transformer.width, stride = workspace_.width_stride();
  const size_t num_tokens = schedule_.tokens[group.scale_index];
  float* const x = workspace_.x() + batch.sequences[group.first_sequence].x_row * stride;
  EmbedArgs embed;
  embed.x = x;
  embed.stride = stride;
  embed.width = width;
  embed.num_tokens = num_tokens;
  embed.num_images = group.num_images;
  embed.num_branches = group.num_branches;
  embed.position = weights_.position.as<float>() + schedule_.offsets[group.scale_index] * width;
  if (group.input != nullptr) {  // the same for both branches
    LinearArgs args;
    args.out = x;
    args.out_stride = stride;
    args.a = group.input;
    args.a_dtype = workspace_.dtype();
    args.a_stride = config_.tokenizer.code_dim;
    args.num_rows = group.num_images * num_tokens;
    args.weights = &weights_.word.matrix;
    args.bias = weights_.word.bias.as<float>();
    backend_.Linear(args);
  } else {
    labels_.clear();
    for (size_t i = 0; i < group.num_sequences(); ++i) {
      labels_.push_back(batch.sequences[group.first_sequence + i].label);
    }
    embed.class_embedding = weights_.class_embedding.as<float>();
    embed.start = weights_.start_position.as<float>();
    embed.labels = labels_;
  }
  backend_.Embed(embed);
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

// For tests: a copy and a wait for every row.
void Transformer::KeepHidden(const Batch& batch, const BatchGroup& group) {
  if (group.hidden == nullptr) return;
  const size_t width = config_.transformer.width, num_rows = schedule_.tokens[group.scale_index];
  for (size_t i = 0; i < group.num_sequences(); ++i) {
    const BatchSequence& sequence = batch.sequences[group.first_sequence + i];
    float* out = group.hidden + (group.num_done * group.hidden_sequences + sequence.lease_sequence) * num_rows * width;
    for (size_t row = 0; row < num_rows; ++row) {
      const float* const from = workspace_.x() + (sequence.x_row + row) * workspace_.width_stride();
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
      spans_.push_back({compact_row, sequence.x_row, num_rows, group.modulations->Head(sequence.label_index)});
      sequence.logits_row = compact_row;
      compact_row += num_rows;
    }
  }
  if (compact_row == 0) return;

  ModulatedNormArgs norm;
  norm.out = workspace_.compact();
  norm.out_dtype = workspace_.dtype();
  norm.out_stride = workspace_.width_stride();
  norm.x = workspace_.x();
  norm.x_stride = workspace_.width_stride();
  norm.width = config_.transformer.width;
  norm.spans = spans_;
  norm.gain_offset = 0;
  norm.shift_offset = config_.transformer.width;
  backend_.ModulatedNorm(norm);

  LinearArgs head;
  head.out = workspace_.logits();
  head.out_stride = workspace_.logits_stride();
  head.a = workspace_.compact();
  head.a_dtype = workspace_.dtype();
  head.a_stride = workspace_.width_stride();
  head.num_rows = compact_row;
  head.weights = &weights_.head.matrix;
  head.bias = weights_.head.bias.as<float>();
  backend_.Linear(head);
  backend_.Section();
}

}  // namespace nextscale
