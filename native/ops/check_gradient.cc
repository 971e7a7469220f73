#include "native/ops/check_gradient.h"

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;

void Need(const void* pointer, const char* op, const char* name) {
  NS_REQUIRE(pointer != nullptr, kBad, op, ": ", name, " is missing");
}

void AtLeast(size_t value, size_t least, const char* op, const char* name) {
  NS_REQUIRE(value >= least, kBad, op, ": ", name, " is ", value, ", expected at least ", least);
}

// Spans follow each other without gap from compact row 0. Returns the number of compact rows.
size_t CheckSpans(std::span<const GradientSpan> spans, bool modulated, const char* op) {
  size_t row = 0;
  for (const GradientSpan& span : spans) {
    NS_REQUIRE(span.compact_row == row, kBad, op, ": span starts at compact row ", span.compact_row, ", expected ",
               row);
    if (modulated && span.num_rows != 0) Need(span.modulation, op, "modulation of a span");
    row += span.num_rows;
  }
  return row;
}

// The spans of one sequence must be adjacent: each sequence's gradient is summed by one task.
void CheckGradients(std::span<const GradientSpan> spans, const char* op) {
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

void CheckNormalizeRows(const NormalizeRowsArgs& args) {
  constexpr const char* kOp = "normalize rows";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, false, kOp) == 0) return;
  Need(args.normal, kOp, "normal");
  Need(args.inverse_deviation, kOp, "inverse_deviation");
  Need(args.x, kOp, "x");
}

void CheckModulate(const ModulateArgs& args) {
  constexpr const char* kOp = "modulate";
  CheckWidth(args.width, args.stride, kOp);
  if (CheckSpans(args.spans, true, kOp) == 0) return;
  Need(args.out, kOp, "out");
  Need(args.normal, kOp, "normal");
}

void CheckModulatedNormGradient(const ModulatedNormGradientArgs& args) {
  constexpr const char* kOp = "modulated norm gradient";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, true, kOp) == 0) return;
  CheckGradients(args.spans, kOp);
  Need(args.dx, kOp, "dx");
  Need(args.dy, kOp, "dy");
  Need(args.normal, kOp, "normal");
  Need(args.inverse_deviation, kOp, "inverse_deviation");
}

void CheckGatedResidual(const GatedResidualArgs& args) {
  constexpr const char* kOp = "gated residual";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, true, kOp) == 0) return;
  Need(args.x, kOp, "x");
  Need(args.y, kOp, "y");
}

void CheckGatedResidualGradient(const GatedResidualGradientArgs& args) {
  constexpr const char* kOp = "gated residual gradient";
  CheckWidth(args.width, args.stride, kOp);
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  if (CheckSpans(args.spans, true, kOp) == 0) return;
  CheckGradients(args.spans, kOp);
  Need(args.dy, kOp, "dy");
  Need(args.dx, kOp, "dx");
  Need(args.y, kOp, "y");
}

void CheckGelu(const GeluArgs& args) {
  constexpr const char* kOp = "gelu";
  if (args.num_rows == 0 || args.width == 0) return;
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.out, kOp, "out");
  Need(args.u, kOp, "u");
}

void CheckGeluGradient(const GeluGradientArgs& args) {
  constexpr const char* kOp = "gelu gradient";
  if (args.num_rows == 0 || args.width == 0) return;
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.du, kOp, "du");
  Need(args.dout, kOp, "dout");
  Need(args.u, kOp, "u");
}

void CheckCrossEntropy(const CrossEntropyArgs& args) {
  constexpr const char* kOp = "cross entropy";
  AtLeast(args.codebook_size, 1, kOp, "codebook_size");
  AtLeast(args.stride, args.codebook_size, kOp, "stride");
  if (args.num_rows == 0) return;
  Need(args.logits, kOp, "logits");
  Need(args.targets, kOp, "targets");
  Need(args.losses, kOp, "losses");
  NS_REQUIRE(args.smoothing >= 0 && args.smoothing < 1, kBad, kOp, ": smoothing is ", args.smoothing,
             ", expected 0 to below 1");
  for (size_t row = 0; row < args.num_rows; ++row) {
    NS_REQUIRE(args.targets[row] >= 0 && static_cast<size_t>(args.targets[row]) < args.codebook_size, kBad, kOp,
               ": target ", args.targets[row], " of row ", row, ", expected 0..", args.codebook_size - 1);
  }
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

}  // namespace nextscale
