// The way back: each function undoes one of pass.cc.
#include <algorithm>
#include <cmath>

#include "native/base/error.h"
#include "native/model/modulation.h"
#include "native/ops/gelu_gradient.h"
#include "native/ops/linear_gradient.h"
#include "native/train/linear_call.h"
#include "native/train/pass.h"

namespace nextscale {

void Pass::Backward(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input,
                    float* gradient) {
  const size_t num_images = input.labels.size();
  const size_t x_floats = num_images * schedule_.num_tokens * memory_.width_stride;
  std::fill_n(memory_.dx.as<float>(), x_floats, 0.0f);
  std::fill_n(memory_.dmodulations.as<float>(), num_images * memory_.modulation_stride, 0.0f);
  BackwardHead(context, network, num_images, gradient);
  for (size_t block_index = network.blocks.size(); block_index-- > 0;) {
    CheckStop();
    FillRows(block_index, num_images);
    if (block_rows_.num_rows == 0) continue;
    if (options_.checkpointing) {
      std::copy_n(memory_.block_inputs[block_index].as<float>(), x_floats, memory_.x.as<float>());
      ForwardBlock(context, weights, network, block_index);
    }
    BackwardFeedForward(context, network, block_index, gradient);
    BackwardAttention(context, weights, network, block_index, gradient);
  }
  BackwardEmbed(context, input, gradient);
  BackwardCondition(context, weights, network, input, gradient);
}

void Pass::AddWeightGradient(Context& context, const LinearPlace& place, const float* dy, size_t dy_stride,
                             const float* a, size_t a_stride, size_t num_rows, float* gradient, float* bias_gradient) {
  WeightGradient(context, {.dweights = gradient + place.weight,
                           .dbias = bias_gradient,
                           .dy = dy,
                           .dy_stride = dy_stride,
                           .a = a,
                           .a_stride = a_stride,
                           .num_rows = num_rows,
                           .n = place.n,
                           .k = place.k});
}

// Finds the gradient of the logits in wide1.
void Pass::BackwardHead(Context& context, const PackedNetwork& network, size_t num_images, float* gradient) {
  const size_t num_blocks = network.blocks.size(), stride = memory_.width_stride;
  rows_.FillAll(num_images, BlockModulations(num_blocks), BlockModulationGradients(num_blocks),
                memory_.modulation_stride, block_rows_);
  const float* const dlogits = memory_.wide1.as<float>();
  float* const a = memory_.narrow1.as<float>();
  float* const da = memory_.narrow2.as<float>();
  ModulateRows(context, memory_.head_normal, 0, 1, a);
  AddWeightGradient(context, layout_.head, dlogits, memory_.wide_stride, a, stride, block_rows_.num_rows, gradient,
                    gradient + layout_.head.bias);
  Linear(context,
         LinearCall(network.head.backward, nullptr, dlogits, memory_.wide_stride, block_rows_.num_rows, da, stride));
  ModulatedNormGradient(context, {.dx = memory_.dx.as<float>(),
                                  .x_stride = stride,
                                  .dy = da,
                                  .normal = memory_.head_normal.as<float>(),
                                  .stride = stride,
                                  .inverse_deviation = memory_.head_inverse_deviation.as<float>(),
                                  .width = config_.transformer.width,
                                  .spans = block_rows_.spans,
                                  .gain_offset = 0,
                                  .shift_offset = config_.transformer.width});
}

void Pass::BackwardFeedForward(Context& context, const PackedNetwork& network, size_t block_index, float* gradient) {
  const size_t width = config_.transformer.width, stride = memory_.width_stride, mlp_stride = memory_.mlp_stride;
  const size_t num_rows = block_rows_.num_rows;
  const PackedBlock& block = network.blocks[block_index];
  const BlockPlaces& places = layout_.blocks[block_index];
  BlockActivations& kept = memory_.Block(block_index);
  float* const dy = memory_.narrow1.as<float>();
  float* const a = memory_.narrow2.as<float>();
  float* const dh = memory_.wide1.as<float>();
  float* const h = memory_.wide2.as<float>();

  GatedResidualGradient(context, {.dy = dy,
                                  .dx = memory_.dx.as<float>(),
                                  .x_stride = stride,
                                  .y = kept.out.as<float>(),
                                  .stride = stride,
                                  .width = width,
                                  .spans = block_rows_.spans,
                                  .gate_offset = kMlpGate * width});
  Linear(context, LinearCall(block.fc2.backward, nullptr, dy, stride, num_rows, dh, mlp_stride));
  GeluGradient(context, {.du = dh,
                         .dout = dh,
                         .u = kept.hidden.as<float>(),
                         .out = h,
                         .stride = mlp_stride,
                         .num_rows = num_rows,
                         .width = config_.transformer.mlp_width});
  AddWeightGradient(context, places.fc2, dy, stride, h, mlp_stride, num_rows, gradient, gradient + places.fc2.bias);
  ModulateRows(context, kept.normal2, kMlpGain, kMlpShift, a);
  AddWeightGradient(context, places.fc1, dh, mlp_stride, a, stride, num_rows, gradient, gradient + places.fc1.bias);
  Linear(context, LinearCall(block.fc1.backward, nullptr, dh, mlp_stride, num_rows, dy, stride));
  ModulatedNormGradient(context, {.dx = memory_.dx.as<float>(),
                                  .x_stride = stride,
                                  .dy = dy,
                                  .normal = kept.normal2.as<float>(),
                                  .stride = stride,
                                  .inverse_deviation = kept.inverse_deviation2.as<float>(),
                                  .width = width,
                                  .spans = block_rows_.spans,
                                  .gain_offset = kMlpGain * width,
                                  .shift_offset = kMlpShift * width});
}

void Pass::BackwardAttention(Context& context, const float* weights, const PackedNetwork& network, size_t block_index,
                             float* gradient) {
  const size_t width = config_.transformer.width, stride = memory_.width_stride, num_rows = block_rows_.num_rows;
  const size_t num_heads = config_.transformer.num_heads, head_dim = width / num_heads;
  const PackedBlock& block = network.blocks[block_index];
  const BlockPlaces& places = layout_.blocks[block_index];
  BlockActivations& kept = memory_.Block(block_index);
  float* const dy = memory_.narrow1.as<float>();
  float* const dattention = memory_.narrow2.as<float>();
  float* const dqkv = memory_.wide1.as<float>();

  GatedResidualGradient(context, {.dy = dy,
                                  .dx = memory_.dx.as<float>(),
                                  .x_stride = stride,
                                  .y = kept.projected.as<float>(),
                                  .stride = stride,
                                  .width = width,
                                  .spans = block_rows_.spans,
                                  .gate_offset = kAttentionGate * width});
  AddWeightGradient(context, places.proj, dy, stride, kept.attention.as<float>(), stride, num_rows, gradient,
                    gradient + places.proj.bias);
  Linear(context, LinearCall(block.proj.backward, nullptr, dy, stride, num_rows, dattention, stride));
  CausalAttentionGradient(context, {.dqkv = dqkv,
                                    .dout = dattention,
                                    .out = kept.attention.as<float>(),
                                    .out_stride = stride,
                                    .log_sums = kept.log_sums.as<float>(),
                                    .qkv = kept.qkv.as<float>(),
                                    .qkv_stride = memory_.qkv_stride,
                                    .num_heads = num_heads,
                                    .head_dim = head_dim,
                                    .softmax_factor = SoftmaxFactor(config_.transformer),
                                    .sequences = block_rows_.sequences});
  if (config_.transformer.l2_norm) {
    float* const dfactor = memory_.head_factor_gradient.as<float>();
    std::fill_n(dfactor, num_heads, 0.0f);
    NormalizeHeadsGradient(context, {.dqkv = dqkv,
                                     .qkv = kept.qkv.as<float>(),
                                     .qkv_stride = memory_.qkv_stride,
                                     .inverse_norms = kept.inverse_norms.as<float>(),
                                     .num_rows = num_rows,
                                     .num_heads = num_heads,
                                     .head_dim = head_dim,
                                     .head_factor = block.head_factor.data(),
                                     .dhead_factor = dfactor});
    const float limit = std::log(100.0f);
    for (size_t h = 0; h < num_heads; ++h) {  // factor = exp(min(scale_mul, limit))
      if (weights[places.scale_mul + h] <= limit) gradient[places.scale_mul + h] += dfactor[h] * block.head_factor[h];
    }
  }
  float* const a = memory_.narrow1.as<float>();
  float* const dbias = memory_.qkv_bias_gradient.as<float>();
  std::fill_n(dbias, 3 * width, 0.0f);
  ModulateRows(context, kept.normal1, kAttentionGain, kAttentionShift, a);
  AddWeightGradient(context, places.qkv, dqkv, memory_.qkv_stride, a, stride, num_rows, gradient, dbias);
  for (size_t c = 0; c < width; ++c) {
    gradient[places.q_bias + c] += dbias[c];
    gradient[places.v_bias + c] += dbias[2 * width + c];
  }
  float* const da = memory_.narrow2.as<float>();
  Linear(context, LinearCall(block.qkv.backward, nullptr, dqkv, memory_.qkv_stride, num_rows, da, stride));
  ModulatedNormGradient(context, {.dx = memory_.dx.as<float>(),
                                  .x_stride = stride,
                                  .dy = da,
                                  .normal = kept.normal1.as<float>(),
                                  .stride = stride,
                                  .inverse_deviation = kept.inverse_deviation1.as<float>(),
                                  .width = width,
                                  .spans = block_rows_.spans,
                                  .gain_offset = kAttentionGain * width,
                                  .shift_offset = kAttentionShift * width});
}

void Pass::BackwardEmbed(Context& context, const PassInput& input, float* gradient) {
  const size_t width = config_.transformer.width, num_tokens = schedule_.num_tokens, first_tokens = schedule_.tokens[0];
  const size_t num_images = input.labels.size(), stride = memory_.width_stride;
  const float* const dx = memory_.dx.as<float>();
  float* const sums = memory_.token_sums.as<float>();  // [num_tokens, C]: over images
  context.pool().ParallelFor(num_tokens, [&](size_t token, size_t) {
    float* const sum = sums + token * width;
    float* const position = gradient + layout_.position + token * width;
    std::copy_n(dx + token * stride, width, sum);
    for (size_t image = 1; image < num_images; ++image) {
      const float* row = dx + (image * num_tokens + token) * stride;
      for (size_t c = 0; c < width; ++c) sum[c] += row[c];
    }
    for (size_t c = 0; c < width; ++c) position[c] += sum[c];
  });
  context.pool().ParallelFor(schedule_.num_scales(), [&](size_t k, size_t) {
    float* const level = gradient + layout_.level + k * width;
    for (size_t token = schedule_.offsets[k]; token < schedule_.offsets[k] + schedule_.tokens[k]; ++token) {
      for (size_t c = 0; c < width; ++c) level[c] += sums[token * width + c];
    }
  });
  for (size_t i = 0; i < first_tokens * width; ++i) gradient[layout_.start_position + i] += sums[i];
  for (size_t image = 0; image < num_images; ++image) {
    float* const label = gradient + layout_.class_embedding + static_cast<size_t>(input.labels[image]) * width;
    const float* const image_rows = dx + image * num_tokens * stride;
    for (size_t token = 0; token < first_tokens; ++token) {
      for (size_t c = 0; c < width; ++c) label[c] += image_rows[token * stride + c];
    }
    // word_embed sees every scale but the first.
    if (num_tokens == first_tokens) continue;
    AddWeightGradient(context, layout_.word, image_rows + first_tokens * stride, stride,
                      memory_.input.as<float>() + (image * num_tokens + first_tokens) * config_.tokenizer.code_dim,
                      config_.tokenizer.code_dim, num_tokens - first_tokens, gradient, gradient + layout_.word.bias);
  }
}

// From the modulations back to the label.
void Pass::BackwardCondition(Context& context, const float* weights, const PackedNetwork& network,
                             const PassInput& input, float* gradient) {
  const size_t width = config_.transformer.width, chunks = kNumChunks * width, num_images = input.labels.size();
  const size_t stride = memory_.modulation_stride, num_blocks = layout_.blocks.size();
  const float* const condition = memory_.condition.as<float>();
  float* const dcondition = memory_.dcondition.as<float>();
  std::fill_n(dcondition, num_images * width, 0.0f);
  const RowSpan span{.compact_row = 0, .x_row = 0, .num_rows = num_images, .modulation = nullptr};
  const auto back = [&](const PackedLinear& layer, const LinearPlace& place, const float* dy, size_t dy_stride) {
    AddWeightGradient(context, place, dy, dy_stride, condition, width, num_images, gradient, gradient + place.bias);
    LinearArgs add = LinearCall(layer.backward, nullptr, dy, dy_stride, num_images, dcondition, width);
    add.epilogue = Epilogue::kResidual;
    add.spans = {&span, 1};
    Linear(context, add);
  };
  float* const sum = memory_.modulation_sum.as<float>();
  if (config_.transformer.shared_ada) std::fill_n(sum, num_images * chunks, 0.0f);
  for (size_t block_index = 0; block_index < num_blocks; ++block_index) {
    if (!rows_.Runs(block_index)) continue;
    const BlockPlaces& places = layout_.blocks[block_index];
    const float* const dmodulation = BlockModulationGradients(block_index);
    if (!config_.transformer.shared_ada) {
      back(network.blocks[block_index].ada, places.ada, dmodulation, stride);
      continue;
    }
    for (size_t i = 0; i < num_images * chunks; ++i) {
      const float value = dmodulation[i / chunks * stride + i % chunks];
      sum[i] += value;
      gradient[places.ada_offset + i % chunks] += value;
    }
  }
  if (config_.transformer.shared_ada) back(network.shared_ada, layout_.shared_ada, sum, chunks);
  back(network.head_ada, layout_.head_ada, BlockModulationGradients(num_blocks), stride);
  for (size_t i = 0; i < num_images * width; ++i) {  // silu'(e) = σ (1 + e (1 − σ))
    const size_t place = layout_.class_embedding + static_cast<size_t>(input.labels[i / width]) * width + i % width;
    const float e = weights[place], sigmoid = 1.0f / (1.0f + std::exp(-e));
    gradient[place] += dcondition[i] * sigmoid * (1.0f + e * (1.0f - sigmoid));
  }
}

}  // namespace nextscale
