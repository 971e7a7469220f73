#include "native/train/activations.h"

#include <algorithm>

#include "native/model/modulation.h"

namespace nextscale {

// Either takes memory or only counts it, so that the figure cannot differ from what is taken.
class Activations::Planner {
 public:
  // backend null: only counts. num_rows: M.
  Planner(TrainingBackend* backend, size_t num_rows) : backend_(backend), num_rows_(num_rows) {}

  void Take(Buffer& buffer, size_t numbers) {
    static_assert(sizeof(float) == sizeof(int32_t));
    bytes_ += numbers * sizeof(float);
    if (backend_ != nullptr) buffer = backend_->Allocate(numbers * sizeof(float), "a training pass");
  }
  void TakeRows(Buffer& buffer, size_t stride) { Take(buffer, num_rows_ * stride); }
  size_t bytes() const { return bytes_; }

 private:
  TrainingBackend* backend_;
  size_t num_rows_, bytes_ = 0;
};

Activations::Activations(const ModelConfig& config) {
  constexpr size_t kPadding = 16;  // floats: one cache line
  const TransformerConfig& transformer = config.transformer;
  width_stride = transformer.width + kPadding;
  qkv_stride = 3 * transformer.width + kPadding;
  mlp_stride = transformer.mlp_width + kPadding;
  wide_stride = std::max({3 * transformer.width, transformer.mlp_width, config.tokenizer.codebook_size}) + kPadding;
}

void Activations::PlanBlock(Planner& planner, const TransformerConfig& config, Kept& kept) const {
  planner.TakeRows(kept.normal1, width_stride);
  planner.TakeRows(kept.inverse_deviation1, 1);
  planner.TakeRows(kept.qkv, qkv_stride);
  if (config.l2_norm) planner.TakeRows(kept.inverse_norms, 2 * config.num_heads);
  planner.TakeRows(kept.attended, width_stride);
  planner.TakeRows(kept.log_sums, config.num_heads);
  planner.TakeRows(kept.projected, width_stride);
  planner.TakeRows(kept.normal2, width_stride);
  planner.TakeRows(kept.inverse_deviation2, 1);
  planner.TakeRows(kept.unactivated, mlp_stride);
  planner.TakeRows(kept.out, width_stride);
}

void Activations::PlanShared(Planner& planner, const ModelConfig& config, const PassOptions& options) {
  const TransformerConfig& transformer = config.transformer;
  const size_t width = transformer.width, images = options.micro_batch;
  if (options.checkpointing) {
    block_inputs.resize(transformer.depth);
    for (Buffer& buffer : block_inputs) planner.TakeRows(buffer, width_stride);
  }
  for (Buffer* buffer : {&x, &dx, &head_normal, &narrow1, &narrow2}) planner.TakeRows(*buffer, width_stride);
  planner.TakeRows(head_inverse_deviation, 1);
  planner.TakeRows(wide1, wide_stride);
  planner.TakeRows(wide2, wide_stride);
  planner.TakeRows(tokens, 1);
  planner.TakeRows(input, config.tokenizer.code_dim);
  planner.Take(f_hat, config.side() * config.side() * config.tokenizer.code_dim);
  planner.TakeRows(losses, 1);
  planner.Take(dstarts, images * width);
  planner.Take(dvectors, images * width);
  planner.Take(dmodulations, images * (transformer.depth * kNumChunks + kNumHeadChunks) * width);
  if (transformer.shared_ada) planner.Take(dshared, images * kNumChunks * width);
  planner.Take(token_sums, config.num_tokens() * width);
  planner.Take(qkv_bias_gradient, 3 * width);
  planner.Take(head_factor_gradient, transformer.num_heads);
}

Activations::Activations(TrainingBackend& backend, const ModelConfig& config, const PassOptions& options)
    : Activations(config) {
  Planner planner(&backend, options.micro_batch * config.num_tokens());
  PlanShared(planner, config, options);
  kept_.resize(options.checkpointing ? 1 : config.transformer.depth);
  for (Kept& kept : kept_) PlanBlock(planner, config.transformer, kept);
}

size_t Activations::Bytes(const ModelConfig& config, const PassOptions& options) {
  Activations plan(config);
  const size_t num_rows = options.micro_batch * config.num_tokens();
  Planner block(nullptr, num_rows), shared(nullptr, num_rows);
  Kept one;
  plan.PlanBlock(block, config.transformer, one);
  plan.PlanShared(shared, config, options);
  return shared.bytes() + (options.checkpointing ? 1 : config.transformer.depth) * block.bytes();
}

BlockMemory Activations::Block(size_t block_index) const {
  const Kept& kept = kept_[kept_.size() == 1 ? 0 : block_index];
  return {.normed = narrow1.data(),
          .attended = kept.attended.data(),
          .qkv = kept.qkv.data(),
          .hidden = wide1.data(),
          .width_stride = width_stride,
          .qkv_stride = qkv_stride,
          .mlp_stride = mlp_stride,
          .attention_norm = {kept.normal1.as<float>(), kept.inverse_deviation1.as<float>()},
          .mlp_norm = {kept.normal2.as<float>(), kept.inverse_deviation2.as<float>()},
          .inverse_norms = kept.inverse_norms.as<float>(),
          .log_sums = kept.log_sums.as<float>(),
          .projected = kept.projected.as<float>(),
          .unactivated = kept.unactivated.as<float>(),
          .out = kept.out.as<float>()};
}

HeadMemory Activations::Head() const {
  return {.normed = narrow1.data(),
          .width_stride = width_stride,
          .logits = wide1.as<float>(),
          .logits_stride = wide_stride,
          .norm = {head_normal.as<float>(), head_inverse_deviation.as<float>()}};
}

}  // namespace nextscale
