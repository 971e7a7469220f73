#include "native/model/block.h"

#include <algorithm>
#include <cmath>

#include "native/model/modulation.h"
#include "native/ops/norm.h"

namespace nextscale {
namespace {

constexpr size_t kPadding = 16;  // floats: one cache line

// Fields that every linear layer of a block shares.
LinearArgs Layer(const LinearWeights& weights, const float* a, size_t a_stride, size_t num_rows) {
  LinearArgs args;
  args.a = a;
  args.a_stride = a_stride;
  args.num_rows = num_rows;
  args.weights = &weights.matrix;
  args.bias = weights.bias.data();
  return args;
}

LinearArgs Into(LinearArgs args, float* out, size_t out_stride, Epilogue epilogue) {
  args.out = out;
  args.out_stride = out_stride;
  args.epilogue = epilogue;
  return args;
}

}  // namespace

Workspace::Workspace(const ModelConfig& config, size_t max_rows)
    : max_rows_(max_rows),
      width_stride_(config.var.width + kPadding),
      wide_stride_(std::max({3 * config.var.width, config.var.mlp_width, config.vae.codebook_size}) + kPadding),
      x_(max_rows * width_stride_ * sizeof(float)),
      compact_(max_rows * width_stride_ * sizeof(float)),
      wide_(max_rows * wide_stride_ * sizeof(float)) {}

void RunBlock(Context& context, const VarConfig& config, const BlockWeights& weights, const Workspace& workspace,
              std::span<const RowSpan> spans, std::span<const AttentionSequence> sequences) {
  if (spans.empty()) return;
  const size_t width = config.width, num_heads = config.num_heads, head_dim = width / num_heads;
  const size_t num_rows = spans.back().compact_row + spans.back().num_rows;
  float* const x = workspace.x();
  float* const compact = workspace.compact();
  float* const wide = workspace.wide();
  const size_t x_stride = workspace.width_stride(), wide_stride = workspace.wide_stride();

  ModulatedNormArgs norm;
  norm.out = compact;
  norm.out_stride = x_stride;
  norm.x = x;
  norm.x_stride = x_stride;
  norm.width = width;
  norm.spans = spans;
  norm.gain_offset = kAttentionGain * width;
  norm.shift_offset = kAttentionShift * width;
  ModulatedNorm(context, norm);
  Linear(context, Into(Layer(weights.qkv, compact, x_stride, num_rows), wide, wide_stride, Epilogue::kStore));

  SplitHeadsArgs split;
  split.qkv = wide;
  split.qkv_stride = wide_stride;
  split.num_heads = num_heads;
  split.head_dim = head_dim;
  split.head_factor = config.l2_norm ? weights.head_factor.data() : nullptr;
  split.sequences = sequences;
  SplitHeads(context, split);

  AttentionArgs attention;
  attention.out = compact;
  attention.out_stride = x_stride;
  attention.q = wide;
  attention.q_stride = wide_stride;
  attention.num_heads = num_heads;
  attention.head_dim = head_dim;
  attention.softmax_factor = config.l2_norm ? 1.0f : 0.25f / std::sqrt(static_cast<float>(head_dim));
  attention.sequences = sequences;
  Attention(context, attention);

  LinearArgs proj = Into(Layer(weights.proj, compact, x_stride, num_rows), x, x_stride, Epilogue::kResidual);
  proj.spans = spans;
  proj.gate_offset = kAttentionGate * width;
  Linear(context, proj);

  norm.gain_offset = kMlpGain * width;
  norm.shift_offset = kMlpShift * width;
  ModulatedNorm(context, norm);
  Linear(context, Into(Layer(weights.fc1, compact, x_stride, num_rows), wide, wide_stride, Epilogue::kGelu));
  LinearArgs fc2 = Into(Layer(weights.fc2, wide, wide_stride, num_rows), x, x_stride, Epilogue::kResidual);
  fc2.spans = spans;
  fc2.gate_offset = kMlpGate * width;
  Linear(context, fc2);
}

}  // namespace nextscale
