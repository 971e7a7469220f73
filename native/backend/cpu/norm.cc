// Modulated layer norm: two passes over a row that stays in the first cache (mean, then variance), one to write.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/norm.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check.h"
#include "native/ops/norm.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr float kEpsilon = 1e-6f;

float Mean(const float* x, size_t width) {
  const DF df;
  VF sum = hn::Zero(df);
  size_t c = 0;
  for (; c + kLanes <= width; c += kLanes) sum = hn::Add(sum, hn::LoadU(df, x + c));
  float total = hn::GetLane(hn::SumOfLanes(df, sum));
  for (; c < width; ++c) total += x[c];
  return total / static_cast<float>(width);
}

float Variance(const float* x, size_t width, float mean) {
  const DF df;
  const VF means = hn::Set(df, mean);
  VF sum = hn::Zero(df);
  size_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    const VF distance = hn::Sub(hn::LoadU(df, x + c), means);
    sum = hn::MulAdd(distance, distance, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(df, sum));
  for (; c < width; ++c) total += (x[c] - mean) * (x[c] - mean);
  return total / static_cast<float>(width);
}

// kept: null, or where the normalised row goes.
void NormRow(const float* x, size_t width, const float* gain, const float* shift, float* out, float* kept,
             float* inverse_deviation) {
  const DF df;
  const float mean = Mean(x, width);
  const float factor = 1.0f / std::sqrt(Variance(x, width, mean) + kEpsilon);
  const VF means = hn::Set(df, mean), factors = hn::Set(df, factor), one = hn::Set(df, 1.0f);
  size_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    const VF normal = hn::Mul(hn::Sub(hn::LoadU(df, x + c), means), factors);
    if (kept != nullptr) hn::StoreU(normal, df, kept + c);
    hn::StoreU(hn::MulAdd(normal, hn::Add(one, hn::LoadU(df, gain + c)), hn::LoadU(df, shift + c)), df, out + c);
  }
  for (; c < width; ++c) {
    const float normal = (x[c] - mean) * factor;
    if (kept != nullptr) kept[c] = normal;
    out[c] = normal * (1.0f + gain[c]) + shift[c];
  }
  if (kept != nullptr) *inverse_deviation = factor;
}

void NormOnTarget(Context& context, const ModulatedNormArgs& args) {
  const size_t num_rows = args.spans.back().compact_row + args.spans.back().num_rows;
  constexpr size_t kTaskFloats = 16384;  // tens of microseconds
  const size_t task_rows = std::max<size_t>(1, kTaskFloats / args.width);
  context.pool().ParallelFor((num_rows + task_rows - 1) / task_rows, [&](size_t task, size_t) {
    const RowSpan* span = args.spans.data();
    for (size_t row = task * task_rows; row < std::min(num_rows, (task + 1) * task_rows); ++row) {
      while (row - span->compact_row >= span->num_rows) ++span;
      NormRow(args.x + (span->x_row + row - span->compact_row) * args.x_stride, args.width,
              span->modulation + args.gain_offset, span->modulation + args.shift_offset,
              static_cast<float*>(args.out) + row * args.out_stride,
              args.normal == nullptr ? nullptr : args.normal + row * args.out_stride,
              args.normal == nullptr ? nullptr : args.inverse_deviation + row);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(NormOnTarget);

void ModulatedNorm(Context& context, const ModulatedNormArgs& args) {
  CheckModulatedNorm(args);
  CheckFloat(args.out_dtype, "norm: out");
  if (args.spans.empty()) return;
  HWY_DYNAMIC_DISPATCH(NormOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
