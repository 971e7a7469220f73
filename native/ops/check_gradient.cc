#include "native/ops/check_gradient.h"

#include <cmath>

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

// Spans follow each other without gap from compact row 0.
void CheckSpans(std::span<const GradientSpan> spans, bool gradients, const char* op) {
  size_t row = 0;
  for (const GradientSpan& span : spans) {
    NS_REQUIRE(span.compact_row == row, kBad, op, ": span starts at compact row ", span.compact_row, ", expected ",
               row);
    Need(span.modulation, op, "modulation of a span");
    if (gradients) Need(span.dmodulation, op, "dmodulation of a span");
    row += span.num_rows;
  }
}

}  // namespace

void CheckWeightGradient(const WeightGradientArgs& args) {
  constexpr const char* kOp = "weight gradient";
  AtLeast(args.n, 1, kOp, "n");
  AtLeast(args.k, 1, kOp, "k");
  AtLeast(args.dy_stride, args.n, kOp, "dy_stride");
  AtLeast(args.a_stride, args.k, kOp, "a_stride");
  Need(args.dweights, kOp, "dweights");
  Need(args.dy, kOp, "dy");
  Need(args.a, kOp, "a");
  Need(args.workspace, kOp, "workspace");
}

void CheckNormalizeRows(const NormalizeRowsArgs& args) {
  constexpr const char* kOp = "normalize rows";
  AtLeast(args.width, 1, kOp, "width");
  AtLeast(args.stride, args.width, kOp, "stride");
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  Need(args.normal, kOp, "normal");
  Need(args.inverse_deviation, kOp, "inverse_deviation");
  Need(args.x, kOp, "x");
  CheckSpans(args.spans, false, kOp);
}

void CheckModulate(const ModulateArgs& args) {
  constexpr const char* kOp = "modulate";
  AtLeast(args.width, 1, kOp, "width");
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.out, kOp, "out");
  Need(args.normal, kOp, "normal");
  CheckSpans(args.spans, false, kOp);
}

void CheckModulatedNormGradient(const ModulatedNormGradientArgs& args) {
  constexpr const char* kOp = "modulated norm gradient";
  AtLeast(args.width, 1, kOp, "width");
  AtLeast(args.stride, args.width, kOp, "stride");
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  Need(args.dx, kOp, "dx");
  Need(args.dy, kOp, "dy");
  Need(args.normal, kOp, "normal");
  Need(args.inverse_deviation, kOp, "inverse_deviation");
  CheckSpans(args.spans, true, kOp);
}

void CheckGatedResidual(const GatedResidualArgs& args) {
  constexpr const char* kOp = "gated residual";
  AtLeast(args.width, 1, kOp, "width");
  AtLeast(args.stride, args.width, kOp, "stride");
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  Need(args.x, kOp, "x");
  Need(args.y, kOp, "y");
  CheckSpans(args.spans, false, kOp);
}

void CheckGatedResidualGradient(const GatedResidualGradientArgs& args) {
  constexpr const char* kOp = "gated residual gradient";
  AtLeast(args.width, 1, kOp, "width");
  AtLeast(args.stride, args.width, kOp, "stride");
  AtLeast(args.x_stride, args.width, kOp, "x_stride");
  Need(args.dy, kOp, "dy");
  Need(args.dx, kOp, "dx");
  Need(args.y, kOp, "y");
  CheckSpans(args.spans, true, kOp);
}

void CheckGelu(const GeluArgs& args) {
  constexpr const char* kOp = "gelu";
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.out, kOp, "out");
  Need(args.u, kOp, "u");
}

void CheckGeluGradient(const GeluGradientArgs& args) {
  constexpr const char* kOp = "gelu gradient";
  AtLeast(args.stride, args.width, kOp, "stride");
  Need(args.du, kOp, "du");
  Need(args.dout, kOp, "dout");
  Need(args.u, kOp, "u");
}

void CheckCrossEntropy(const CrossEntropyArgs& args) {
  constexpr const char* kOp = "cross entropy";
  AtLeast(args.codebook_size, 1, kOp, "codebook_size");
  AtLeast(args.stride, args.codebook_size, kOp, "stride");
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

void CheckAdamW(const AdamWArgs& args) {
  constexpr const char* kOp = "AdamW";
  Need(args.weights, kOp, "weights");
  Need(args.gradient, kOp, "gradient");
  Need(args.mean, kOp, "mean");
  Need(args.variance, kOp, "variance");
  NS_REQUIRE(args.correction1 > 0 && args.correction2 > 0, kBad, kOp, ": bias corrections ", args.correction1, " and ",
             args.correction2, ", expected above 0");
}

}  // namespace nextscale
