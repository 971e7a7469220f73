#include "native/train/activations.h"

#include <algorithm>

namespace nextscale {
namespace {

constexpr size_t kPadding = 16;  // floats: one cache line

// Either takes memory or only counts it, so that the figure cannot differ from what is taken.
class Planner {
 public:
  explicit Planner(bool counting) : counting_(counting) {}
  void Take(Buffer& buffer, size_t floats) {
    bytes_ += floats * sizeof(float);
    if (!counting_) buffer = Buffer(floats * sizeof(float));
  }
  size_t bytes() const { return bytes_; }

 private:
  bool counting_;
  size_t bytes_ = 0;
};

struct Sizes {
  Sizes(const ModelConfig& config, const PassOptions& options)
      : width(config.transformer.width + kPadding),
        qkv(3 * config.transformer.width + kPadding),
        mlp(config.transformer.mlp_width + kPadding),
        wide(std::max({3 * config.transformer.width, config.transformer.mlp_width, config.tokenizer.codebook_size}) + kPadding),
        rows(options.micro_batch * config.num_tokens()) {}
  size_t width, qkv, mlp, wide, rows;
};

void PlanBlock(Planner& planner, const ModelConfig& config, const Sizes& sizes, BlockActivations& block) {
  planner.Take(block.normal1, sizes.rows * sizes.width);
  planner.Take(block.inverse_deviation1, sizes.rows);
  planner.Take(block.qkv, sizes.rows * sizes.qkv);
  if (config.transformer.l2_norm) planner.Take(block.inverse_norms, sizes.rows * 2 * config.transformer.num_heads);
  planner.Take(block.attention, sizes.rows * sizes.width);
  planner.Take(block.log_sums, sizes.rows * config.transformer.num_heads);
  planner.Take(block.projected, sizes.rows * sizes.width);
  planner.Take(block.normal2, sizes.rows * sizes.width);
  planner.Take(block.inverse_deviation2, sizes.rows);
  planner.Take(block.hidden, sizes.rows * sizes.mlp);
  planner.Take(block.out, sizes.rows * sizes.width);
}

void PlanShared(Planner& planner, const ModelConfig& config, const PassOptions& options, const Sizes& sizes,
                Activations& plan) {
  const size_t width = config.transformer.width, images = options.micro_batch;
  if (options.checkpointing) {
    plan.block_inputs.resize(config.transformer.depth);
    for (Buffer& input : plan.block_inputs) planner.Take(input, sizes.rows * sizes.width);
  }
  for (Buffer* buffer : {&plan.x, &plan.dx, &plan.head_normal, &plan.narrow1, &plan.narrow2}) {
    planner.Take(*buffer, sizes.rows * sizes.width);
  }
  planner.Take(plan.head_inverse_deviation, sizes.rows);
  planner.Take(plan.wide1, sizes.rows * sizes.wide);
  planner.Take(plan.wide2, sizes.rows * sizes.wide);
  planner.Take(plan.input, sizes.rows * config.tokenizer.code_dim);
  planner.Take(plan.losses, sizes.rows);
  planner.Take(plan.condition, images * width);
  planner.Take(plan.dcondition, images * width);
  planner.Take(plan.modulations, images * plan.modulation_stride);
  planner.Take(plan.dmodulations, images * plan.modulation_stride);
  if (config.transformer.shared_ada) planner.Take(plan.modulation_sum, images * 6 * width);
  planner.Take(plan.token_sums, config.num_tokens() * width);
  planner.Take(plan.qkv_bias_gradient, 3 * width);
  planner.Take(plan.head_factor_gradient, config.transformer.num_heads);
}

}  // namespace

Activations::Activations(const ModelConfig& config, const PassOptions& options) {
  const Sizes sizes(config, options);
  rows = sizes.rows;
  width_stride = sizes.width;
  qkv_stride = sizes.qkv;
  mlp_stride = sizes.mlp;
  wide_stride = sizes.wide;
  modulation_stride = (6 * config.transformer.depth + 2) * config.transformer.width;
  Planner planner(/*counting=*/false);
  PlanShared(planner, config, options, sizes, *this);
  blocks_.resize(options.checkpointing ? 1 : config.transformer.depth);
  for (BlockActivations& block : blocks_) PlanBlock(planner, config, sizes, block);
}

size_t Activations::Bytes(const ModelConfig& config, const PassOptions& options) {
  const Sizes sizes(config, options);
  Planner block(/*counting=*/true), shared(/*counting=*/true);
  BlockActivations one;
  PlanBlock(block, config, sizes, one);
  Activations plan;
  plan.modulation_stride = (6 * config.transformer.depth + 2) * config.transformer.width;
  PlanShared(shared, config, options, sizes, plan);
  return shared.bytes() + (options.checkpointing ? 1 : config.transformer.depth) * block.bytes();
}

}  // namespace nextscale
