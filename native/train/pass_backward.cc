// The way back: each function undoes one part of the way forward.
#include "native/train/pass.h"

namespace nextscale {

void Pass::Backward(const PackedNetwork& network, const float* weights, float* gradient) {
  const WayBack way{network, weights, gradient};
  backend_.Clear(memory_.dx.data(), RowBytes());
  backend_.Clear(memory_.dmodulations.data(), conditions_.size() * modulations_.stride() * sizeof(float));
  BackwardHead(way);
  for (size_t block_index = network.forward().blocks.size(); block_index-- > 0;) {
    CheckStop();
    FillRows(block_index);
    if (block_rows_.num_rows == 0) continue;
    if (options_.checkpointing) {
      backend_.Copy(memory_.x.data(), memory_.block_inputs[block_index].data(), RowBytes());
      ForwardBlock(network.forward(), block_index);
    }
    BackwardFeedForward(way, block_index);
    BackwardAttention(way, block_index);
  }
  BackwardEmbed(way);
  BackwardConditions(way);
}

void Pass::Modulate(const KeptNorm& norm, size_t gain_chunk, size_t shift_chunk, float* out) {
  backend_.Modulate({.out = out,
                     .normal = norm.normal,
                     .stride = memory_.width_stride,
                     .width = config_.transformer.width,
                     .spans = block_rows_.spans,
                     .gain_offset = gain_chunk * config_.transformer.width,
                     .shift_offset = shift_chunk * config_.transformer.width});
}

void Pass::BackwardNorm(const KeptNorm& norm, size_t gain_chunk, size_t shift_chunk, const float* dy) {
  backend_.ModulatedNormGradient({.dx = memory_.dx.as<float>(),
                                  .x_stride = memory_.width_stride,
                                  .dy = dy,
                                  .normal = norm.normal,
                                  .stride = memory_.width_stride,
                                  .inverse_deviation = norm.inverse_deviation,
                                  .width = config_.transformer.width,
                                  .spans = block_rows_.spans,
                                  .gain_offset = gain_chunk * config_.transformer.width,
                                  .shift_offset = shift_chunk * config_.transformer.width});
}

void Pass::BackwardGate(const float* y, size_t gate_chunk, float* dy) {
  backend_.GatedResidualGradient({.dy = dy,
                                  .dx = memory_.dx.as<float>(),
                                  .x_stride = memory_.width_stride,
                                  .y = y,
                                  .stride = memory_.width_stride,
                                  .width = config_.transformer.width,
                                  .spans = block_rows_.spans,
                                  .gate_offset = gate_chunk * config_.transformer.width});
}

void Pass::BackwardInput(const PackedMatrix& weights, const float* dy, size_t dy_stride, float* out,
                         size_t out_stride) {
  backend_.Linear({.out = out,
                   .out_stride = out_stride,
                   .a = dy,
                   .a_stride = dy_stride,
                   .num_rows = block_rows_.num_rows,
                   .weights = &weights});
}

void Pass::AddWeightGradient(const WayBack& way, size_t weight, float* dbias, const float* dy, size_t dy_stride,
                             const float* a, size_t a_stride, size_t num_rows) {
  const Parameter& parameter = layout_.all()[weight];
  backend_.WeightGradient({.dweights = way.gradient + parameter.offset,
                           .dbias = dbias,
                           .dy = dy,
                           .dy_stride = dy_stride,
                           .a = a,
                           .a_stride = a_stride,
                           .num_rows = num_rows,
                           .n = parameter.shape[0],
                           .k = parameter.shape[1]});
}

void Pass::Accumulate(float* to, const float* values, size_t count) {
  backend_.AddOffset(
      {.out = to, .out_stride = count, .in = to, .in_stride = count, .offset = values, .num_rows = 1, .width = count});
}

// Finds the gradient of the logits in their place.
void Pass::BackwardHead(const WayBack& way) {
  FillHeadRows();
  const HeadMemory head = memory_.Head();
  const LinearTensors& tensors = layout_.tensors().head;
  const size_t stride = memory_.width_stride;
  float* const a = memory_.narrow1.as<float>();
  float* const da = memory_.narrow2.as<float>();
  Modulate(head.norm, kHeadGain, kHeadShift, a);
  AddWeightGradient(way, tensors.weight, way.gradient + layout_.offset(tensors.bias), head.logits, head.logits_stride,
                    a, stride, block_rows_.num_rows);
  BackwardInput(way.network.backward().head, head.logits, head.logits_stride, da, stride);
  BackwardNorm(head.norm, kHeadGain, kHeadShift, da);
}

void Pass::BackwardFeedForward(const WayBack& way, size_t block_index) {
  const size_t stride = memory_.width_stride, mlp_stride = memory_.mlp_stride, num_rows = block_rows_.num_rows;
  const BackwardBlock& block = way.network.backward().blocks[block_index];
  const BlockTensors& tensors = layout_.tensors().blocks[block_index];
  const BlockMemory kept = memory_.Block(block_index);
  float* const dy = memory_.narrow1.as<float>();
  float* const a = memory_.narrow2.as<float>();
  float* const dh = memory_.wide1.as<float>();
  float* const h = memory_.wide2.as<float>();

  BackwardGate(kept.out, kMlpGate, dy);
  BackwardInput(block.fc2, dy, stride, dh, mlp_stride);
  backend_.GeluGradient({.du = dh,
                         .dout = dh,
                         .u = kept.unactivated,
                         .out = h,
                         .stride = mlp_stride,
                         .num_rows = num_rows,
                         .width = config_.transformer.mlp_width});
  AddWeightGradient(way, tensors.fc2.weight, way.gradient + layout_.offset(tensors.fc2.bias), dy, stride, h, mlp_stride,
                    num_rows);
  Modulate(kept.mlp_norm, kMlpGain, kMlpShift, a);
  AddWeightGradient(way, tensors.fc1.weight, way.gradient + layout_.offset(tensors.fc1.bias), dh, mlp_stride, a, stride,
                    num_rows);
  BackwardInput(block.fc1, dh, mlp_stride, dy, stride);
  BackwardNorm(kept.mlp_norm, kMlpGain, kMlpShift, dy);
}

void Pass::BackwardAttention(const WayBack& way, size_t block_index) {
  const TransformerConfig& config = config_.transformer;
  const size_t width = config.width, stride = memory_.width_stride, qkv_stride = memory_.qkv_stride;
  const size_t num_rows = block_rows_.num_rows, num_heads = config.num_heads, head_dim = width / num_heads;
  const BackwardBlock& block = way.network.backward().blocks[block_index];
  const BlockTensors& tensors = layout_.tensors().blocks[block_index];
  const BlockMemory kept = memory_.Block(block_index);
  const float* const attended = static_cast<const float*>(kept.attended);
  const float* const qkv = static_cast<const float*>(kept.qkv);
  float* const dy = memory_.narrow1.as<float>();
  float* const dattended = memory_.narrow2.as<float>();
  float* const dqkv = memory_.wide1.as<float>();

  BackwardGate(kept.projected, kAttentionGate, dy);
  AddWeightGradient(way, tensors.proj.weight, way.gradient + layout_.offset(tensors.proj.bias), dy, stride, attended,
                    stride, num_rows);
  BackwardInput(block.proj, dy, stride, dattended, stride);
  backend_.AttentionGradient({.dqkv = dqkv,
                              .dout = dattended,
                              .out = attended,
                              .out_stride = stride,
                              .log_sums = kept.log_sums,
                              .qkv = qkv,
                              .qkv_stride = qkv_stride,
                              .num_heads = num_heads,
                              .head_dim = head_dim,
                              .softmax_factor = SoftmaxFactor(config),
                              .sequences = block_rows_.sequences});
  if (config.l2_norm) {
    const float* const head_factor = way.network.forward().blocks[block_index].head_factor.as<float>();
    float* const dfactor = memory_.head_factor_gradient.as<float>();
    backend_.Clear(dfactor, num_heads * sizeof(float));
    backend_.SplitHeadsGradient({.dqkv = dqkv,
                                 .qkv = qkv,
                                 .qkv_stride = qkv_stride,
                                 .inverse_norms = kept.inverse_norms,
                                 .num_rows = num_rows,
                                 .num_heads = num_heads,
                                 .head_dim = head_dim,
                                 .head_factor = head_factor,
                                 .dhead_factor = dfactor});
    backend_.HeadFactorsGradient({.dscale_mul = way.gradient + layout_.offset(tensors.scale_mul),
                                  .dhead_factor = dfactor,
                                  .head_factor = head_factor,
                                  .scale_mul = way.weights + layout_.offset(tensors.scale_mul),
                                  .num_heads = num_heads});
  }
  float* const a = memory_.narrow1.as<float>();
  float* const dbias = memory_.qkv_bias_gradient.as<float>();
  backend_.Clear(dbias, 3 * width * sizeof(float));
  Modulate(kept.attention_norm, kAttentionGain, kAttentionShift, a);
  AddWeightGradient(way, tensors.qkv, dbias, dqkv, qkv_stride, a, stride, num_rows);
  Accumulate(way.gradient + layout_.offset(tensors.q_bias), dbias, width);
  Accumulate(way.gradient + layout_.offset(tensors.v_bias), dbias + 2 * width, width);
  float* const da = memory_.narrow2.as<float>();
  BackwardInput(block.qkv, dqkv, qkv_stride, da, stride);
  BackwardNorm(kept.attention_norm, kAttentionGain, kAttentionShift, da);
}

void Pass::BackwardEmbed(const WayBack& way) {
  const TransformerTensors& list = layout_.tensors();
  const size_t num_tokens = schedule_.num_tokens, first_tokens = schedule_.tokens[0];
  const size_t stride = memory_.width_stride, code_dim = config_.tokenizer.code_dim;
  backend_.EmbedGradient({.dposition = way.gradient + layout_.offset(list.position),
                          .dlevel = way.gradient + layout_.offset(list.level),
                          .dstart_position = way.gradient + layout_.offset(list.start_position),
                          .dstarts = memory_.dstarts.as<float>(),
                          .dx = memory_.dx.as<float>(),
                          .stride = stride,
                          .width = config_.transformer.width,
                          .num_images = conditions_.size(),
                          .tokens = schedule_.tokens,
                          .workspace = memory_.token_sums.as<float>()});
  if (num_tokens == first_tokens) return;
  // word_embed sees every scale but the first.
  for (size_t image = 0; image < conditions_.size(); ++image) {
    const size_t row = image * num_tokens + first_tokens;
    AddWeightGradient(way, list.word.weight, way.gradient + layout_.offset(list.word.bias),
                      memory_.dx.as<float>() + row * stride, stride, memory_.input.as<float>() + row * code_dim,
                      code_dim, num_tokens - first_tokens);
  }
}

// From the modulations back to the conditions, and from these to the class embedding.
void Pass::BackwardConditions(const WayBack& way) {
  const TransformerTensors& list = layout_.tensors();
  const BackwardWeights& backward = way.network.backward();
  const size_t width = config_.transformer.width, chunks = kNumChunks * width, num_images = conditions_.size();
  const size_t stride = modulations_.stride();
  float* const dvectors = memory_.dvectors.as<float>();
  backend_.Clear(dvectors, num_images * width * sizeof(float));
  const RowSpan all{.num_rows = num_images};
  const auto back = [&](const LinearTensors& tensors, const PackedMatrix& weights, const float* dy, size_t dy_stride) {
    AddWeightGradient(way, tensors.weight, way.gradient + layout_.offset(tensors.bias), dy, dy_stride,
                      static_cast<const float*>(conditions_.vectors()), width, num_images);
    backend_.Linear({.out = dvectors,
                     .out_stride = width,
                     .a = dy,
                     .a_stride = dy_stride,
                     .num_rows = num_images,
                     .weights = &weights,
                     .epilogue = Epilogue::kResidual,
                     .spans = {&all, 1}});
  };
  const bool shared = list.shared_ada.has_value();
  float* const dshared = memory_.dshared.as<float>();
  if (shared) backend_.Clear(dshared, num_images * chunks * sizeof(float));
  for (size_t block_index = 0; block_index < list.blocks.size(); ++block_index) {
    if (!rows_.Runs(block_index)) continue;
    const float* const dblock = memory_.dmodulations.as<float>() + block_index * chunks;
    if (!shared) {
      back(list.blocks[block_index].ada, backward.blocks[block_index].ada, dblock, stride);
      continue;
    }
    for (size_t image = 0; image < num_images; ++image) {
      Accumulate(dshared + image * chunks, dblock + image * stride, chunks);
      Accumulate(way.gradient + layout_.offset(list.blocks[block_index].ada_offset), dblock + image * stride, chunks);
    }
  }
  if (shared) back(*list.shared_ada, backward.shared_ada, dshared, chunks);
  back(list.head_ada, backward.head_ada, memory_.dmodulations.as<float>() + list.blocks.size() * chunks, stride);
  conditions_.AddGradient(backend_, memory_.dstarts.as<float>(), dvectors,
                          way.gradient + layout_.offset(list.class_embedding));
}

}  // namespace nextscale
