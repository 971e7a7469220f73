// Cross entropy, one row after the other: the largest logit, the sum of exponentials, and the gradient in place.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/cross_entropy.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/base/error.h"
#include "native/ops/check.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

struct RowSums {
  float largest = 0;
  double exponentials = 0;  // Σ e^(x − largest)
  double values = 0;        // Σ x; NaN when any x is NaN or infinite
};

RowSums Sums(const float* x, size_t count) {
  const DF df;
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  VF most = hn::Set(df, kLowest), values = hn::Zero(df), poison = hn::Zero(df);
  const size_t whole = count / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    const VF v = hn::LoadU(df, x + i);
    most = hn::Max(most, v);
    values = hn::Add(values, v);
    poison = hn::MulAdd(v, hn::Zero(df), poison);  // 0, or NaN
  }
  RowSums sums;
  sums.largest = hn::GetLane(hn::MaxOfLanes(df, most));
  sums.values = hn::GetLane(hn::SumOfLanes(df, values)) + hn::GetLane(hn::SumOfLanes(df, poison));
  for (size_t i = whole; i < count; ++i) {
    sums.largest = std::max(sums.largest, x[i]);
    sums.values += x[i] + 0.0f * x[i];
  }
  VF exponentials = hn::Zero(df);
  const VF shift = hn::Set(df, sums.largest);
  for (size_t i = 0; i < whole; i += kLanes) {
    exponentials = hn::Add(exponentials, Exp(df, hn::Sub(hn::LoadU(df, x + i), shift)));
  }
  sums.exponentials = hn::GetLane(hn::SumOfLanes(df, exponentials));
  for (size_t i = whole; i < count; ++i) sums.exponentials += std::exp(x[i] - sums.largest);
  return sums;
}

// x ← factor · (e^x / Σ e^x − smoothing / V), the target's share aside.
void Gradient(float* x, size_t count, const RowSums& sums, float factor, float smoothing) {
  const DF df;
  const float share = static_cast<float>(factor / sums.exponentials);
  const float base = -factor * smoothing / static_cast<float>(count);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VF weight = Exp(df, hn::Sub(hn::LoadU(df, x + i), hn::Set(df, sums.largest)));
    hn::StoreU(hn::MulAdd(weight, hn::Set(df, share), hn::Set(df, base)), df, x + i);
  }
  for (; i < count; ++i) x[i] = std::exp(x[i] - sums.largest) * share + base;
}

void CrossEntropyOnTarget(Context& context, const CrossEntropyArgs& args) {
  constexpr size_t kTaskFloats = 16384;
  const size_t task_rows = std::max<size_t>(1, kTaskFloats / args.codebook_size);
  context.pool().ParallelFor((args.num_rows + task_rows - 1) / task_rows, [&](size_t task, size_t) {
    for (size_t row = task * task_rows; row < std::min(args.num_rows, (task + 1) * task_rows); ++row) {
      float* const x = args.logits + row * args.stride;
      const size_t target = static_cast<size_t>(args.targets[row]);
      const RowSums sums = Sums(x, args.codebook_size);
      const double log_sum = std::log(sums.exponentials) + static_cast<double>(sums.largest);
      const double mean = sums.values / static_cast<double>(args.codebook_size);
      // NaN in the mean reaches the loss even without smoothing.
      const double smoothing = static_cast<double>(args.smoothing);
      const double loss = (1.0 - smoothing) * (log_sum - static_cast<double>(x[target])) + smoothing * (log_sum - mean);
      args.losses[row] = static_cast<float>(std::isfinite(mean) ? loss : std::numeric_limits<double>::quiet_NaN());
      if (args.gradient_factor == 0.0f) continue;
      Gradient(x, args.codebook_size, sums, args.gradient_factor, args.smoothing);
      x[target] -= args.gradient_factor * (1.0f - args.smoothing);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(CrossEntropyOnTarget);

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  CheckCrossEntropy(args);
  for (size_t row = 0; row < args.num_rows; ++row) {
    NS_REQUIRE(args.targets[row] >= 0 && static_cast<size_t>(args.targets[row]) < args.codebook_size,
               ErrorCode::kInvalidArgument, "cross entropy: target ", args.targets[row], " of row ", row,
               ", expected 0..", args.codebook_size - 1);
  }
  HWY_DYNAMIC_DISPATCH(CrossEntropyOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
