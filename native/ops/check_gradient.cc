#include "native/ops/check_gradient.h"

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;
constexpr size_t kMaxHeadDim = 1024;

void Need(const void* pointer, const char* op, const char* name) {
  NS_REQUIRE(pointer != nullptr, kBad, op, ": ", name, " is missing");
}

void AtLeast(size_t value, size_t least, const char* op, const char* name) {
  NS_REQUIRE(value >= least, kBad, op, ": ", name, " is ", value, ", expected at least ", least);
}

// Spans follow each other without gap from compact row 0. Returns the number of compact rows.
size_t CheckSpans(std::span<const RowSpan> spans, const char* op) {
  size_t row = 0;
  for (const RowSpan& span : spans) {
    NS_REQUIRE(span.compact_row == row, kBad, op, ": span starts at compact row ", span.compact_row, ", expected ",
               row);
    if (span.num_rows != 0) Need(span.modulation, op, "modulation of a span");
    row += span.num_rows;
  }
  return row;
}

// The spans of one sequence must be adjacent: each sequence's gradient is summed by one task.
void CheckGradients(std::span<const RowSpan> spans, const char* op) {
  for (size_t i = 0; i < spans.size(); ++i) {
    Need(spans[i].dmodulation, op, "dmodulation of a span");
    if (i == 0 || spans[i].dmodulation == spans[i - 1].dmodulation) continue;
    for (size_t earlier = 0; earlier < i; ++earlier) {
      NS_REQUIRE(spans[i].dmodulation != spans[earlier].dmodulation, kBad, op, ": spans ", earlier, " and ", i,
                 " name one dmodulation, and a span between them another");
    }
  }
}

void CheckWidth(size_t width, size_t stride, const char* op) {
  AtLeast(width, 1, op, "width");
  AtLeast(stride, width, op, "stride");
}

void CheckHeads(size_t num_heads, size_t head_dim, size_t qkv_stride, const char* op) {
  NS_REQUIRE(num_heads >= 1, kBad, op, ": no heads");
  NS_REQUIRE(head_dim >= 1 && head_dim <= kMaxHeadDim, kBad, op, ": head_dim ", head_dim, ", expected 1..",
             kMaxHeadDim);
  NS_REQUIRE(qkv_stride >= 3 * num_heads * head_dim, kBad, op, ": qkv_stride is ", qkv_stride, ", expected at least ",
             3 * num_heads * head_dim);
}

void CheckSequences(std::span<const CausalSequence> sequences, const char* op) {
  for (const CausalSequence& sequence : sequences) {
    NS_REQUIRE(!sequence.ends.empty(), kBad, op, ": a sequence without rows");
    size_t previous = 0;
    for (const size_t end : sequence.ends) {
      NS_REQUIRE(end > previous, kBad, op, ": ends must ascend; found ", end, " after ", previous);
      previous = end;
    }
  }
}

}  // namespace

void CheckRepack(const float* weights, const PackedMatrix& packed, size_t panel) {
  constexpr const char* kOp = "repack";
  Need(weights, kOp, "weights");
  Need(packed.data.data(), kOp, "packed matrix");
  const size_t bytes = (packed.n + panel - 1) / panel * panel * packed.k * sizeof(float);
  NS_REQUIRE(packed.dtype == DType::kF32 && packed.panel == panel && packed.data.bytes() >= bytes, kBad, kOp,
             ": the packed matrix was not made by MakePackedMatrix: panels of ", packed.panel, " and ",
             packed.data.bytes(), " bytes, expected panels of ", panel, " and ", bytes, " bytes");
}

void CheckWeightGradient(const WeightGradientArgs& args) {
  constexpr const char* kOp = "weight gradient";
  AtLeast(args.n, 1, kOp, "n");
  AtLeast(args.k, 1, kOp, "k");
  if (args.num_rows == 0) return;
  AtLeast(args.dy_stride, args.n, kOp, "dy_stride");
  AtLeast(args.a_stride, args.k, kOp, "a_stride");
  Need(args.dweights, kOp, "dweights");
  Need(args.dy, kOp, "dy");
  Need(args.a, kOp, "a");
}

void CheckModulate(const ModulateArgs& args) {
  constexpr const char* kOp = "modulate";
  CheckWidth(args.width, args.stride, kOp);
  if (CheckSpans(args.spans, kOp) == 0) return;
  Need(args.out, kOp, "out");
  Need(args.normal, kOp, "normal");
}

void CheckModulatedNormGradient(const ModulatedNormGradientArgs& args) {
  constexpr const char* kOp = "modulated norm gradient";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, kOp) == 0) return;
  CheckGradients(args.spans, kOp);
  Need(args.dx, kOp, "dx");
  Need(args.dy, kOp, "dy");
  Need(args.normal, kOp, "normal");
  Need(args.inverse_deviation, kOp, "inverse_deviation");
}

void CheckGatedResidualGradient(const GatedResidualGradientArgs& args) {
  constexpr const char* kOp = "gated residual gradient";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, kOp) == 0) return;
  CheckGradients(args.spans, kOp);
  Need(args.dy, kOp, "dy");
  Need(args.dx, kOp, "dx");
  Need(args.y, kOp, "y");
}

void CheckGeluGradient(const GeluGradientArgs& args) {
  constexpr const char* kOp = "gelu gradient";
  if (args.num_rows == 0 || args.width == 0) return;
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.du, kOp, "du");
  Need(args.dout, kOp, "dout");
  Need(args.u, kOp, "u");
}

void CheckEmbedGradient(const EmbedGradientArgs& args) {
  constexpr const char* kOp = "embed gradient";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.tokens.size(), 1, kOp, "the number of scales");
  AtLeast(args.num_images, 1, kOp, "the number of images");
  Need(args.dposition, kOp, "dposition");
  Need(args.dlevel, kOp, "dlevel");
  Need(args.dstart_position, kOp, "dstart_position");
  Need(args.dstarts, kOp, "dstarts");
  Need(args.dx, kOp, "dx");
  Need(args.workspace, kOp, "workspace");
}

void CheckConditionGradient(const ConditionGradientArgs& args) {
  constexpr const char* kOp = "condition gradient";
  AtLeast(args.width, 1, kOp, "width");
  Need(args.dembedding, kOp, "dembedding");
  Need(args.dstart, kOp, "dstart");
  Need(args.dvector, kOp, "dvector");
  Need(args.start, kOp, "start");
}

void CheckSquaredNorm(const float* values, size_t count) {
  if (count != 0) Need(values, "squared norm", "values");
}

void CheckAdamW(const AdamWArgs& args) {
  constexpr const char* kOp = "AdamW";
  if (args.count == 0) return;
  Need(args.weights, kOp, "weights");
  Need(args.gradient, kOp, "gradient");
  Need(args.mean, kOp, "mean");
  Need(args.variance, kOp, "variance");
  NS_REQUIRE(args.correction1 > 0 && args.correction2 > 0, kBad, kOp, ": bias corrections ", args.correction1, " and ",
             args.correction2, ", expected above 0");
}

void CheckSplitHeadsGradient(const SplitHeadsGradientArgs& args) {
  constexpr const char* kOp = "split heads gradient";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  Need(args.dqkv, kOp, "dqkv");
  Need(args.qkv, kOp, "qkv");
  Need(args.inverse_norms, kOp, "inverse_norms");
  Need(args.head_factor, kOp, "head_factor");
  Need(args.dhead_factor, kOp, "dhead_factor");
}

void CheckAttentionGradient(const AttentionGradientArgs& args) {
  constexpr const char* kOp = "attention gradient";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  NS_REQUIRE(args.out_stride >= args.num_heads * args.head_dim, kBad, kOp, ": out_stride is ", args.out_stride,
             ", expected at least ", args.num_heads * args.head_dim);
  Need(args.dqkv, kOp, "dqkv");
  Need(args.dout, kOp, "dout");
  Need(args.out, kOp, "out");
  Need(args.log_sums, kOp, "log_sums");
  Need(args.qkv, kOp, "qkv");
  CheckSequences(args.sequences, kOp);
}

void CheckHeadFactors(const HeadFactorArgs& args) {
  constexpr const char* kOp = "head factors";
  AtLeast(args.num_heads, 1, kOp, "num_heads");
  Need(args.head_factor, kOp, "head_factor");
  Need(args.scale_mul, kOp, "scale_mul");
}

void CheckHeadFactorsGradient(const HeadFactorGradientArgs& args) {
  constexpr const char* kOp = "head factors gradient";
  AtLeast(args.num_heads, 1, kOp, "num_heads");
  Need(args.dscale_mul, kOp, "dscale_mul");
  Need(args.dhead_factor, kOp, "dhead_factor");
  Need(args.head_factor, kOp, "head_factor");
  Need(args.scale_mul, kOp, "scale_mul");
}

}  // namespace nextscale
