#include "native/model/forward.h"

#include <cmath>

#include "native/model/modulation.h"

namespace nextscale {
namespace {

size_t NumRows(std::span<const RowSpan> spans) {
  return spans.empty() ? 0 : spans.back().compact_row + spans.back().num_rows;
}

// A linear layer without its output.
LinearArgs Layer(const Backend& backend, const LinearWeights& weights, const void* a, size_t a_stride,
                 size_t num_rows) {
  return {.a = a,
          .a_dtype = backend.activation_dtype(),
          .a_stride = a_stride,
          .num_rows = num_rows,
          .weights = &weights.matrix,
          .bias = weights.bias.as<float>()};
}

ModulatedNormArgs Norm(const Backend& backend, const ResidualStream& stream, std::span<const RowSpan> spans,
                       size_t width, void* out, size_t out_stride, const KeptNorm& kept) {
  return {.out = out,
          .out_dtype = backend.activation_dtype(),
          .out_stride = out_stride,
          .x = stream.x,
          .x_stride = stream.stride,
          .width = width,
          .spans = spans,
          .normal = kept.normal,
          .inverse_deviation = kept.inverse_deviation};
}

// x += gate · layer(a)
void AddToStream(Backend& backend, LinearArgs layer, const ResidualStream& stream, std::span<const RowSpan> spans,
                 size_t gate_offset, float* kept, size_t kept_stride) {
  layer.out = stream.x;
  layer.out_stride = stream.stride;
  layer.epilogue = Epilogue::kResidual;
  layer.spans = spans;
  layer.gate_offset = gate_offset;
  layer.kept = kept;
  layer.kept_stride = kept_stride;
  backend.Linear(layer);
}

}  // namespace

float SoftmaxFactor(const TransformerConfig& config) {
  return config.l2_norm ? 1.0f : 0.25f / std::sqrt(static_cast<float>(config.width / config.num_heads));
}

void EmbedTokens(Backend& backend, const TransformerWeights& weights, const EmbedRows& rows, const ResidualStream& to) {
  const size_t width = weights.word.matrix.n;
  EmbedArgs embed{.x = to.x,
                  .stride = to.stride,
                  .width = width,
                  .num_tokens = rows.num_tokens,
                  .num_images = rows.num_images,
                  .num_branches = rows.num_branches,
                  .position = weights.position.as<float>() + rows.first_token * width};
  if (rows.input != nullptr) {
    LinearArgs word =
        Layer(backend, weights.word, rows.input, weights.word.matrix.k, rows.num_images * rows.num_tokens);
    word.out = to.x;
    word.out_stride = to.stride;
    backend.Linear(word);
  } else {
    embed.starts = rows.conditions->starts();
    embed.start_position = weights.start_position.as<float>();
    embed.conditions = rows.condition_of;
  }
  backend.Embed(embed);
}

void RunBlock(Backend& backend, const TransformerConfig& config, const BlockWeights& weights, const BlockMemory& memory,
              const ResidualStream& stream, std::span<const RowSpan> spans,
              std::span<const AttentionSequence> sequences) {
  const size_t num_rows = NumRows(spans);
  if (num_rows == 0) return;
  const size_t width = config.width, num_heads = config.num_heads, head_dim = width / num_heads;
  const size_t stride = memory.width_stride;
  const DType dtype = backend.activation_dtype();

  ModulatedNormArgs norm = Norm(backend, stream, spans, width, memory.normed, stride, memory.attention_norm);
  norm.gain_offset = kAttentionGain * width;
  norm.shift_offset = kAttentionShift * width;
  backend.ModulatedNorm(norm);

  LinearArgs qkv = Layer(backend, weights.qkv, memory.normed, stride, num_rows);
  qkv.out = memory.qkv;
  qkv.out_dtype = dtype;
  qkv.out_stride = memory.qkv_stride;
  backend.Qkv(qkv, {.qkv = memory.qkv,
                    .dtype = dtype,
                    .qkv_stride = memory.qkv_stride,
                    .num_heads = num_heads,
                    .head_dim = head_dim,
                    .head_factor = config.l2_norm ? weights.head_factor.as<float>() : nullptr,
                    .inverse_norms = memory.inverse_norms,
                    .sequences = sequences});
  backend.Attention({.out = memory.attended,
                     .dtype = dtype,
                     .out_stride = stride,
                     .q = memory.qkv,
                     .q_stride = memory.qkv_stride,
                     .num_heads = num_heads,
                     .head_dim = head_dim,
                     .softmax_factor = SoftmaxFactor(config),
                     .log_sums = memory.log_sums,
                     .sequences = sequences});
  AddToStream(backend, Layer(backend, weights.proj, memory.attended, stride, num_rows), stream, spans,
              kAttentionGate * width, memory.projected, stride);

  norm = Norm(backend, stream, spans, width, memory.normed, stride, memory.mlp_norm);
  norm.gain_offset = kMlpGain * width;
  norm.shift_offset = kMlpShift * width;
  backend.ModulatedNorm(norm);
  LinearArgs fc1 = Layer(backend, weights.fc1, memory.normed, stride, num_rows);
  fc1.out = memory.hidden;
  fc1.out_dtype = dtype;
  fc1.out_stride = memory.mlp_stride;
  fc1.epilogue = Epilogue::kGelu;
  fc1.kept = memory.unactivated;
  fc1.kept_stride = memory.mlp_stride;
  backend.Linear(fc1);
  AddToStream(backend, Layer(backend, weights.fc2, memory.hidden, memory.mlp_stride, num_rows), stream, spans,
              kMlpGate * width, memory.out, stride);
}

void RunHead(Backend& backend, const TransformerConfig& config, const TransformerWeights& weights,
             const HeadMemory& memory, const ResidualStream& stream, std::span<const RowSpan> spans) {
  const size_t num_rows = NumRows(spans);
  if (num_rows == 0) return;
  ModulatedNormArgs norm = Norm(backend, stream, spans, config.width, memory.normed, memory.width_stride, memory.norm);
  norm.gain_offset = kHeadGain * config.width;
  norm.shift_offset = kHeadShift * config.width;
  backend.ModulatedNorm(norm);
  LinearArgs head = Layer(backend, weights.head, memory.normed, memory.width_stride, num_rows);
  head.out = memory.logits;
  head.out_stride = memory.logits_stride;
  backend.Linear(head);
}

}  // namespace nextscale
