#include "native/model/block.h"

#include <algorithm>
#include <cmath>

#include "native/model/modulation.h"

namespace nextscale {
namespace {

constexpr size_t kPadding = 16;  // numbers: a cache line of f32
constexpr const char* kWhat = "the workspace of a step";

// Fields that every linear layer of a block shares.
LinearArgs Layer(const LinearWeights& weights, DType dtype, const void* a, size_t a_stride, size_t num_rows) {
  LinearArgs args;
  args.a = a;
  args.a_dtype = dtype;
  args.a_stride = a_stride;
  args.num_rows = num_rows;
  args.weights = &weights.matrix;
  args.bias = weights.bias.as<float>();
  return args;
}

LinearArgs Into(LinearArgs args, void* out, DType out_dtype, size_t out_stride, Epilogue epilogue) {
  args.out = out;
  args.out_dtype = out_dtype;
  args.out_stride = out_stride;
  args.epilogue = epilogue;
  return args;
}

}  // namespace

Workspace::Workspace(Backend& backend, const ModelConfig& config, size_t max_rows)
    : max_rows_(max_rows),
      width_stride_(config.transformer.width + kPadding),
      wide_stride_(std::max(3 * config.transformer.width, config.transformer.mlp_width) + kPadding),
      logits_stride_(config.tokenizer.codebook_size + kPadding),
      dtype_(backend.activation_dtype()),
      x_(backend.Allocate(max_rows * width_stride_ * sizeof(float), kWhat)),
      compact_(backend.Allocate(max_rows * width_stride_ * DTypeBytes(dtype_), kWhat)),
      wide_(backend.Allocate(
          max_rows * std::max(wide_stride_ * DTypeBytes(dtype_), logits_stride_ * sizeof(float)), kWhat)) {}

void RunBlock(Backend& backend, const TransformerConfig& config, const BlockWeights& weights, const Workspace& workspace,
              std::span<const RowSpan> spans, std::span<const AttentionSequence> sequences) {
  if (spans.empty()) return;
  const size_t width = config.width, num_heads = config.num_heads, head_dim = width / num_heads;
  const size_t num_rows = spans.back().compact_row + spans.back().num_rows;
  const DType dtype = workspace.dtype();
  float* const x = workspace.x();
  void* const compact = workspace.compact();
  void* const wide = workspace.wide();
  const size_t x_stride = workspace.width_stride(), wide_stride = workspace.wide_stride();

  ModulatedNormArgs norm;
  norm.out = compact;
  norm.out_dtype = dtype;
  norm.out_stride = x_stride;
  norm.x = x;
  norm.x_stride = x_stride;
  norm.width = width;
  norm.spans = spans;
  norm.gain_offset = kAttentionGain * width;
  norm.shift_offset = kAttentionShift * width;
  backend.ModulatedNorm(norm);

  SplitHeadsArgs split;
  split.qkv = wide;
  split.dtype = dtype;
  split.qkv_stride = wide_stride;
  split.num_heads = num_heads;
  split.head_dim = head_dim;
  split.head_factor = config.l2_norm ? weights.head_factor.as<float>() : nullptr;
  split.sequences = sequences;
  backend.Qkv(
      Into(Layer(weights.qkv, dtype, compact, x_stride, num_rows), wide, dtype, wide_stride, Epilogue::kStore), split);

  AttentionArgs attention;
  attention.out = compact;
  attention.dtype = dtype;
  attention.out_stride = x_stride;
  attention.q = wide;
  attention.q_stride = wide_stride;
  attention.num_heads = num_heads;
  attention.head_dim = head_dim;
  attention.softmax_factor = config.l2_norm ? 1.0f : 0.25f / std::sqrt(static_cast<float>(head_dim));
  attention.sequences = sequences;
  backend.Attention(attention);

  LinearArgs proj = Into(Layer(weights.proj, dtype, compact, x_stride, num_rows), x, DType::kF32, x_stride,
                         Epilogue::kResidual);
  proj.spans = spans;
  proj.gate_offset = kAttentionGate * width;
  backend.Linear(proj);

  norm.gain_offset = kMlpGain * width;
  norm.shift_offset = kMlpShift * width;
  backend.ModulatedNorm(norm);
  backend.Linear(
      Into(Layer(weights.fc1, dtype, compact, x_stride, num_rows), wide, dtype, wide_stride, Epilogue::kGelu));
  LinearArgs fc2 =
      Into(Layer(weights.fc2, dtype, wide, wide_stride, num_rows), x, DType::kF32, x_stride, Epilogue::kResidual);
  fc2.spans = spans;
  fc2.gate_offset = kMlpGate * width;
  backend.Linear(fc2);
}

}  // namespace nextscale
