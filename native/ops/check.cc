#include "native/ops/check.h"

#include <cmath>

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;
constexpr size_t kMaxHeadDim = 1024;
constexpr size_t kMaxSequenceRows = 4096;

// A row-major matrix; sizes in bytes.
struct Extent {
  Extent(const void* data, DType dtype, size_t row_stride, size_t row_width)
      : begin(static_cast<const std::byte*>(data)),
        stride(row_stride * DTypeBytes(dtype)),
        width(row_width * DTypeBytes(dtype)) {}
  const std::byte* begin;
  size_t stride, width;
};

// Do two matrices of equal height share memory? Matrices side by side in one buffer (same stride, other columns) do
// not.
bool Overlap(const Extent& one, const Extent& other, size_t num_rows) {
  const auto [a, a_stride, a_width] = one;
  const auto [b, b_stride, b_width] = other;
  const std::byte* a_end = a + (num_rows - 1) * a_stride + a_width;
  const std::byte* b_end = b + (num_rows - 1) * b_stride + b_width;
  if (a_end <= b || b_end <= a) return false;
  if (a_stride != b_stride) return true;
  const size_t ahead = a <= b ? static_cast<size_t>(b - a) % a_stride : static_cast<size_t>(a - b) % b_stride;
  const size_t first = a <= b ? a_width : b_width, second = a <= b ? b_width : a_width;
  return ahead < first || ahead + second > a_stride;
}

// Spans must follow each other without gap from compact row 0. Returns the number of compact rows.
size_t CheckSpans(std::span<const RowSpan> spans, const char* op) {
  size_t row = 0;
  for (const RowSpan& span : spans) {
    NS_REQUIRE(span.compact_row == row, kBad, op, ": span starts at compact row ", span.compact_row, ", expected ",
               row);
    row += span.num_rows;
  }
  return row;
}

void CheckSequences(std::span<const AttentionSequence> sequences, const char* op) {
  for (const AttentionSequence& sequence : sequences) {
    const KvView& kv = sequence.kv;
    NS_REQUIRE(sequence.num_rows <= kMaxSequenceRows, kBad, op, ": ", sequence.num_rows,
               " tokens in one sequence, at most ", kMaxSequenceRows);
    NS_REQUIRE(kv.slots.size() + kv.tail_rows >= sequence.num_rows, kBad, op, ": ", kv.slots.size() + kv.tail_rows,
               " key rows for ", sequence.num_rows, " tokens");
    NS_REQUIRE(kv.slots.empty() || kv.pool != nullptr, kBad, op, ": slots without a pool");
    NS_REQUIRE(kv.tail_rows == 0 || kv.tail != nullptr, kBad, op, ": tail rows without a tail");
  }
}

void CheckHeads(size_t num_heads, size_t head_dim, const char* op) {
  NS_REQUIRE(num_heads >= 1, kBad, op, ": no heads");
  NS_REQUIRE(head_dim >= 1 && head_dim <= kMaxHeadDim, kBad, op, ": head_dim ", head_dim, ", expected 1..",
             kMaxHeadDim);
}

}  // namespace

void CheckPackMatrix(const TensorView& weights, const char* name) {
  NS_REQUIRE(weights.data != nullptr, kBad, name, ": no data");
  NS_REQUIRE(weights.shape.size() == 2 && weights.num_elements() != 0, kBad, name,
             ": expected a matrix with rows and columns, found rank ", weights.shape.size());
}

void CheckLinear(const LinearArgs& args) {
  NS_REQUIRE(args.weights != nullptr && args.weights->data.data() != nullptr, kBad, "linear: no weights");
  if (args.num_rows == 0) return;
  const size_t n = args.weights->n, k = args.weights->k;
  NS_REQUIRE(args.out != nullptr && args.a != nullptr, kBad, "linear: no input or no output");
  NS_REQUIRE(args.out_stride >= n, kBad, "linear: out_stride ", args.out_stride, ", expected at least ", n);
  NS_REQUIRE(args.a_stride >= k, kBad, "linear: a_stride ", args.a_stride, ", expected at least ", k);
  NS_REQUIRE(args.kept == nullptr || (args.epilogue != Epilogue::kStore && args.kept_stride >= n), kBad,
             "linear: kept with kStore, or kept_stride ", args.kept_stride, " below ", n);
  if (args.epilogue == Epilogue::kResidual) {
    const size_t covered = CheckSpans(args.spans, "linear");
    NS_REQUIRE(covered == args.num_rows, kBad, "linear: spans cover ", covered, " of ", args.num_rows, " rows");
  } else {
    NS_REQUIRE(!Overlap({args.out, args.out_dtype, args.out_stride, n}, {args.a, args.a_dtype, args.a_stride, k},
                        args.num_rows),
               kBad, "linear: out overlaps its input");
  }
}

void CheckModulatedNorm(const ModulatedNormArgs& args) {
  NS_REQUIRE(args.width >= 1, kBad, "norm: width 0");
  if (CheckSpans(args.spans, "norm") == 0) return;
  NS_REQUIRE(args.out != nullptr && args.x != nullptr, kBad, "norm: no input or no output");
  NS_REQUIRE(args.out_stride >= args.width && args.x_stride >= args.width, kBad, "norm: strides ", args.out_stride,
             " and ", args.x_stride, ", expected at least ", args.width);
  NS_REQUIRE((args.normal == nullptr) == (args.inverse_deviation == nullptr), kBad,
             "norm: normal and inverse_deviation go together");
  for (const RowSpan& span : args.spans)
    NS_REQUIRE(span.modulation != nullptr, kBad, "norm: a span without modulation");
}

void CheckSplitHeads(const SplitHeadsArgs& args) {
  CheckHeads(args.num_heads, args.head_dim, "split heads");
  NS_REQUIRE(args.qkv != nullptr || args.sequences.empty(), kBad, "split heads: no input");
  NS_REQUIRE(args.qkv_stride >= 3 * args.num_heads * args.head_dim, kBad, "split heads: qkv_stride ", args.qkv_stride,
             ", expected at least ", 3 * args.num_heads * args.head_dim);
  NS_REQUIRE(args.num_heads * args.head_dim <= kMaxAttentionWidth, kBad, "split heads: width ",
             args.num_heads * args.head_dim, ", expected at most ", kMaxAttentionWidth);
  CheckSequences(args.sequences, "split heads");
}

void CheckQkv(const LinearArgs& linear, const SplitHeadsArgs& split) {
  CheckLinear(linear);
  CheckSplitHeads(split);
  NS_REQUIRE(linear.epilogue == Epilogue::kStore && linear.out == split.qkv && linear.out_dtype == split.dtype &&
                 linear.out_stride == split.qkv_stride,
             kBad, "qkv: the linear layer must store what is split");
}

void CheckAttention(const AttentionArgs& args) {
  CheckHeads(args.num_heads, args.head_dim, "attention");
  NS_REQUIRE((args.out != nullptr && args.q != nullptr) || args.sequences.empty(), kBad,
             "attention: no input or no output");
  const size_t width = args.num_heads * args.head_dim;
  NS_REQUIRE(args.out_stride >= width && args.q_stride >= width, kBad, "attention: strides ", args.out_stride, " and ",
             args.q_stride, ", expected at least ", width);
  NS_REQUIRE(std::isfinite(args.softmax_factor), kBad, "attention: softmax_factor is not finite");
  CheckSequences(args.sequences, "attention");
  size_t num_rows = 0;
  for (const AttentionSequence& sequence : args.sequences) {
    num_rows =
        sequence.compact_row + sequence.num_rows > num_rows ? sequence.compact_row + sequence.num_rows : num_rows;
  }
  NS_REQUIRE(num_rows == 0 || !Overlap({args.out, args.dtype, args.out_stride, width},
                                       {args.q, args.dtype, args.q_stride, width}, num_rows),
             kBad, "attention: out overlaps q");
}

void CheckSample(const SampleArgs& args) {
  if (args.num_tokens == 0) return;
  NS_REQUIRE(args.tokens != nullptr && args.cond != nullptr, kBad, "sample: no input or no output");
  NS_REQUIRE(args.codebook_size >= 1 && args.stride >= args.codebook_size, kBad, "sample: stride ", args.stride,
             ", codebook_size ", args.codebook_size);
  NS_REQUIRE(args.uncond != nullptr || args.guidance == 0.0f, kBad, "sample: guidance ", args.guidance,
             " without unconditional logits");
  NS_REQUIRE(std::isfinite(args.guidance), kBad, "sample: guidance is not finite");
  NS_REQUIRE(args.top_k <= args.codebook_size, kBad, "sample: top_k ", args.top_k, ", expected 0..",
             args.codebook_size);
  NS_REQUIRE(args.codebook_size <= kMaxSampledCodes, kBad, "sample: codebook_size ", args.codebook_size,
             ", expected at most ", kMaxSampledCodes);
  NS_REQUIRE(args.top_p >= 0.0f, kBad, "sample: top_p ", args.top_p, ", expected 0 or more");
}

void CheckCrossEntropy(const CrossEntropyArgs& args) {
  NS_REQUIRE(args.codebook_size >= 1 && args.stride >= args.codebook_size, kBad, "cross entropy: stride ", args.stride,
             ", codebook_size ", args.codebook_size);
  if (args.num_rows == 0) return;
  NS_REQUIRE(args.logits != nullptr && args.targets != nullptr && args.losses != nullptr, kBad,
             "cross entropy: logits, targets or losses are missing");
  NS_REQUIRE(args.smoothing >= 0 && args.smoothing < 1, kBad, "cross entropy: smoothing is ", args.smoothing,
             ", expected 0 to below 1");
}

}  // namespace nextscale
