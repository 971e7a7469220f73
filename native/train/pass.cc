// The way forward.
#include "native/train/pass.h"

#include <algorithm>
#include <cmath>

#include "native/base/error.h"
#include "native/model/modulation.h"
#include "native/ops/cross_entropy.h"
#include "native/ops/gelu_gradient.h"
#include "native/train/linear_call.h"

namespace nextscale {
namespace {

constexpr size_t kRowsPerTask = 32;

}  // namespace

Pass::Pass(const ModelConfig& config, const ParameterLayout& layout, const SubnetTable& subnets, Quantizer& quantizer,
           const PassOptions& options, const std::atomic<bool>& stop)
    : config_(config),
      layout_(layout),
      schedule_(config.tokenizer.sides),
      options_(options),
      stop_(stop),
      quantizer_(quantizer),
      rows_(schedule_, subnets),
      block_rows_(config.num_scales(), options.micro_batch),
      memory_(config, options),
      f_hat_(config.tokenizer.code_dim * config.side() * config.side() * sizeof(float)) {}

void Pass::CheckStop() const {
  NS_REQUIRE(!stop_.load(std::memory_order_relaxed), ErrorCode::kAborted, "the trainer was stopped");
}

float* Pass::BlockModulations(size_t block_index) const {
  return memory_.modulations.as<float>() + block_index * kNumChunks * config_.transformer.width;
}

float* Pass::BlockModulationGradients(size_t block_index) const {
  return memory_.dmodulations.as<float>() + block_index * kNumChunks * config_.transformer.width;
}

void Pass::Forward(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input) {
  const size_t num_images = input.labels.size(), num_blocks = network.blocks.size();
  NS_CHECK(num_images > 0 && num_images <= options_.micro_batch);
  TeacherInput(input);
  Condition(context, weights, network, input);
  Embed(context, weights, network, input);
  for (size_t block_index = 0; block_index < num_blocks; ++block_index) {
    CheckStop();
    if (options_.checkpointing) {
      std::copy_n(memory_.x.as<float>(), num_images * schedule_.num_tokens * memory_.width_stride,
                  memory_.block_inputs[block_index].as<float>());
    }
    FillRows(block_index, num_images);
    ForwardBlock(context, weights, network, block_index);
  }
  // The head.
  rows_.FillAll(num_images, BlockModulations(num_blocks), BlockModulationGradients(num_blocks),
                memory_.modulation_stride, block_rows_);
  NormalizeRows(context, {.normal = memory_.head_normal.as<float>(),
                          .stride = memory_.width_stride,
                          .inverse_deviation = memory_.head_inverse_deviation.as<float>(),
                          .x = memory_.x.as<float>(),
                          .x_stride = memory_.width_stride,
                          .width = config_.transformer.width,
                          .spans = block_rows_.spans});
  float* const a = memory_.narrow1.as<float>();
  ModulateRows(context, memory_.head_normal, 0, 1, a);
  Linear(context, LinearCall(network.head.forward, weights + layout_.head.bias, a, memory_.width_stride,
                             block_rows_.num_rows, memory_.wide1.as<float>(), memory_.wide_stride));
}

std::span<const float> Pass::Loss(Context& context, const PassInput& input, const PassLoss& loss) {
  CrossEntropy(context, {.logits = memory_.wide1.as<float>(),
                         .stride = memory_.wide_stride,
                         .num_rows = input.tokens.size(),
                         .codebook_size = config_.tokenizer.codebook_size,
                         .targets = input.tokens.data(),
                         .losses = memory_.losses.as<float>(),
                         .smoothing = loss.smoothing,
                         .gradient_factor = loss.gradient_factor});
  return {memory_.losses.as<float>(), input.tokens.size()};
}

// What word_embed gets at every scale but the first (reference: quantize.idxBl_to_var_input).
void Pass::TeacherInput(const PassInput& input) {
  const size_t code_dim = config_.tokenizer.code_dim, num_scales = schedule_.num_scales();
  float* const f_hat = f_hat_.as<float>();
  for (size_t image = 0; image < input.labels.size(); ++image) {
    std::fill_n(f_hat, code_dim * config_.side() * config_.side(), 0.0f);
    for (size_t k = 0; k + 1 < num_scales; ++k) {
      const size_t first = image * schedule_.num_tokens;
      quantizer_.AddScale(k, input.tokens.data() + first + schedule_.offsets[k], f_hat);
      quantizer_.NextInput(k + 1, f_hat,
                           memory_.input.as<float>() + (first + schedule_.offsets[k + 1]) * code_dim);
    }
  }
}

// silu(class embedding) and every modulation of every image.
void Pass::Condition(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input) {
  const size_t width = config_.transformer.width, chunks = kNumChunks * width, num_images = input.labels.size();
  const size_t stride = memory_.modulation_stride;
  float* const condition = memory_.condition.as<float>();
  for (size_t image = 0; image < num_images; ++image) {
    const float* row = weights + layout_.class_embedding + static_cast<size_t>(input.labels[image]) * width;
    for (size_t c = 0; c < width; ++c) condition[image * width + c] = row[c] / (1.0f + std::exp(-row[c]));
  }
  const auto apply = [&](const PackedLinear& layer, const LinearPlace& place, float* out, size_t out_stride) {
    Linear(context, LinearCall(layer.forward, weights + place.bias, condition, width, num_images, out, out_stride));
  };
  if (config_.transformer.shared_ada) apply(network.shared_ada, layout_.shared_ada, memory_.modulation_sum.as<float>(), chunks);
  for (size_t block_index = 0; block_index < layout_.blocks.size(); ++block_index) {
    const BlockPlaces& places = layout_.blocks[block_index];
    float* const out = BlockModulations(block_index);
    if (!config_.transformer.shared_ada) {
      apply(network.blocks[block_index].ada, places.ada, out, stride);
      continue;
    }
    for (size_t i = 0; i < num_images * chunks; ++i) {
      out[i / chunks * stride + i % chunks] =
          memory_.modulation_sum.as<float>()[i] + weights[places.ada_offset + i % chunks];
    }
  }
  apply(network.head_ada, layout_.head_ada, BlockModulations(layout_.blocks.size()), stride);
}

void Pass::Embed(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input) {
  const size_t width = config_.transformer.width, num_tokens = schedule_.num_tokens, first_tokens = schedule_.tokens[0];
  const size_t num_rows = input.labels.size() * num_tokens, stride = memory_.width_stride;
  float* const x = memory_.x.as<float>();
  // Rows of the first scale get a finite nothing here and their real value below.
  Linear(context, LinearCall(network.word.forward, weights + layout_.word.bias, memory_.input.as<float>(),
                             config_.tokenizer.code_dim, num_rows, x, stride));
  context.pool().ParallelFor((num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, size_t) {
    for (size_t row = task * kRowsPerTask; row < std::min(num_rows, (task + 1) * kRowsPerTask); ++row) {
      const size_t token = row % num_tokens;
      size_t k = 0;
      while (k + 1 < schedule_.num_scales() && schedule_.offsets[k + 1] <= token) ++k;
      float* const out = x + row * stride;
      if (token < first_tokens) {
        const float* class_row =
            weights + layout_.class_embedding + static_cast<size_t>(input.labels[row / num_tokens]) * width;
        const float* start = weights + layout_.start_position + token * width;
        for (size_t c = 0; c < width; ++c) out[c] = class_row[c] + start[c];
      }
      const float* level = weights + layout_.level + k * width;
      const float* position = weights + layout_.position + token * width;
      for (size_t c = 0; c < width; ++c) out[c] += level[c] + position[c];
    }
  });
}

void Pass::FillRows(size_t block_index, size_t num_images) {
  rows_.Fill(block_index, num_images, BlockModulations(block_index), BlockModulationGradients(block_index),
             memory_.modulation_stride, block_rows_);
}

void Pass::ModulateRows(Context& context, const Buffer& normal, size_t gain_chunk, size_t shift_chunk,
                        float* out) const {
  Modulate(context, {.out = out,
                     .normal = normal.as<float>(),
                     .stride = memory_.width_stride,
                     .width = config_.transformer.width,
                     .spans = block_rows_.spans,
                     .gain_offset = gain_chunk * config_.transformer.width,
                     .shift_offset = shift_chunk * config_.transformer.width});
}

// x += γ1 · proj(attention(LN(x)(1 + s1) + b1)); x += γ2 · fc2(gelu(fc1(LN(x)(1 + s2) + b2))), for the block's rows.
void Pass::ForwardBlock(Context& context, const float* weights, const PackedNetwork& network, size_t block_index) {
  if (block_rows_.num_rows == 0) return;
  const PackedBlock& block = network.blocks[block_index];
  BlockActivations& kept = memory_.Block(block_index);
  const size_t stride = memory_.width_stride, num_rows = block_rows_.num_rows;
  float* const a = memory_.narrow1.as<float>();
  NormalizeRowsArgs norm{.normal = kept.normal1.as<float>(),
                         .stride = stride,
                         .inverse_deviation = kept.inverse_deviation1.as<float>(),
                         .x = memory_.x.as<float>(),
                         .x_stride = stride,
                         .width = config_.transformer.width,
                         .spans = block_rows_.spans};
  NormalizeRows(context, norm);
  ModulateRows(context, kept.normal1, kAttentionGain, kAttentionShift, a);
  Linear(context, LinearCall(block.qkv.forward, block.qkv_bias.data(), a, stride, num_rows, kept.qkv.as<float>(),
                             memory_.qkv_stride));
  Attend(context, block, kept);
  Linear(context, LinearCall(block.proj.forward, weights + layout_.blocks[block_index].proj.bias,
                             kept.attention.as<float>(), stride, num_rows, kept.projected.as<float>(), stride));
  GatedResidualArgs residual{.x = memory_.x.as<float>(),
                             .x_stride = stride,
                             .y = kept.projected.as<float>(),
                             .stride = stride,
                             .width = config_.transformer.width,
                             .spans = block_rows_.spans,
                             .gate_offset = kAttentionGate * config_.transformer.width};
  GatedResidual(context, residual);

  norm.normal = kept.normal2.as<float>();
  norm.inverse_deviation = kept.inverse_deviation2.as<float>();
  NormalizeRows(context, norm);
  FeedForward(context, weights, network, block_index);
  residual.y = kept.out.as<float>();
  residual.gate_offset = kMlpGate * config_.transformer.width;
  GatedResidual(context, residual);
}

void Pass::Attend(Context& context, const PackedBlock& block, BlockActivations& kept) {
  const size_t num_heads = config_.transformer.num_heads, head_dim = config_.transformer.width / num_heads;
  if (config_.transformer.l2_norm) {
    NormalizeHeads(context, {.qkv = kept.qkv.as<float>(),
                             .qkv_stride = memory_.qkv_stride,
                             .inverse_norms = kept.inverse_norms.as<float>(),
                             .num_rows = block_rows_.num_rows,
                             .num_heads = num_heads,
                             .head_dim = head_dim,
                             .head_factor = block.head_factor.data()});
  }
  CausalAttention(context, {.out = kept.attention.as<float>(),
                            .out_stride = memory_.width_stride,
                            .log_sums = kept.log_sums.as<float>(),
                            .qkv = kept.qkv.as<float>(),
                            .qkv_stride = memory_.qkv_stride,
                            .num_heads = num_heads,
                            .head_dim = head_dim,
                            .softmax_factor = SoftmaxFactor(config_.transformer),
                            .sequences = block_rows_.sequences});
}

void Pass::FeedForward(Context& context, const float* weights, const PackedNetwork& network, size_t block_index) {
  const PackedBlock& block = network.blocks[block_index];
  const BlockPlaces& places = layout_.blocks[block_index];
  BlockActivations& kept = memory_.Block(block_index);
  const size_t stride = memory_.width_stride, num_rows = block_rows_.num_rows;
  float* const a = memory_.narrow1.as<float>();
  float* const h = memory_.wide1.as<float>();
  ModulateRows(context, kept.normal2, kMlpGain, kMlpShift, a);
  Linear(context, LinearCall(block.fc1.forward, weights + places.fc1.bias, a, stride, num_rows, kept.hidden.as<float>(),
                             memory_.mlp_stride));
  Gelu(context, {.out = h,
                 .u = kept.hidden.as<float>(),
                 .stride = memory_.mlp_stride,
                 .num_rows = num_rows,
                 .width = config_.transformer.mlp_width});
  Linear(context, LinearCall(block.fc2.forward, weights + places.fc2.bias, h, memory_.mlp_stride, num_rows,
                             kept.out.as<float>(), stride));
}

}  // namespace nextscale
