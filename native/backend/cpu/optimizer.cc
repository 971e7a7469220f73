// AdamW and the norm of a gradient: one walk over memory each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/optimizer.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

double SquaresOf(const float* values, size_t count) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  auto sum = hn::Zero(dd);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto value = hn::PromoteTo(dd, hn::LoadU(df, values + i));
    sum = hn::MulAdd(value, value, sum);
  }
  double total = hn::GetLane(hn::SumOfLanes(dd, sum));
  for (; i < count; ++i) total += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return total;
}

double SquaredNormOnTarget(Context& context, const float* values, size_t count) {
  std::array<double, 256> sums{};
  const size_t piece = std::max<size_t>(4096, (count + sums.size() - 1) / sums.size());
  context.pool().ParallelFor((count + piece - 1) / piece, [&](size_t task, size_t) {
    sums[task] = SquaresOf(values + task * piece, std::min(piece, count - task * piece));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

struct Factors {
  explicit Factors(const AdamWArgs& args)
      : gradient(static_cast<float>(args.gradient_factor)),
        keep(static_cast<float>(1.0 - args.learning_rate * args.weight_decay)),
        beta1(static_cast<float>(args.beta1)),
        rest1(static_cast<float>(1.0 - args.beta1)),
        beta2(static_cast<float>(args.beta2)),
        rest2(static_cast<float>(1.0 - args.beta2)),
        inverse_root(static_cast<float>(1.0 / std::sqrt(args.correction2))),
        epsilon(static_cast<float>(args.epsilon)),
        step(static_cast<float>(args.learning_rate / args.correction1)),
        average(static_cast<float>(args.average_decay)),
        rest_average(static_cast<float>(1.0 - args.average_decay)) {}
  float gradient, keep, beta1, rest1, beta2, rest2, inverse_root, epsilon, step, average, rest_average;
};

template <typename Tag>
HWY_INLINE void Update(Tag d, const AdamWArgs& args, const Factors& f, size_t i) {
  const auto g = hn::Mul(hn::Set(d, f.gradient), hn::LoadU(d, args.gradient + i));
  const auto m = hn::MulAdd(hn::Set(d, f.beta1), hn::LoadU(d, args.mean + i), hn::Mul(hn::Set(d, f.rest1), g));
  const auto v =
      hn::MulAdd(hn::Set(d, f.beta2), hn::LoadU(d, args.variance + i), hn::Mul(hn::Mul(hn::Set(d, f.rest2), g), g));
  const auto root = hn::MulAdd(hn::Sqrt(v), hn::Set(d, f.inverse_root), hn::Set(d, f.epsilon));
  const auto kept = hn::Mul(hn::Set(d, f.keep), hn::LoadU(d, args.weights + i));
  const auto w = hn::NegMulAdd(hn::Set(d, f.step), hn::Div(m, root), kept);
  hn::StoreU(m, d, args.mean + i);
  hn::StoreU(v, d, args.variance + i);
  hn::StoreU(w, d, args.weights + i);
  if (args.average == nullptr) return;
  const auto average = hn::Mul(hn::Set(d, f.average), hn::LoadU(d, args.average + i));
  hn::StoreU(hn::MulAdd(hn::Set(d, f.rest_average), w, average), d, args.average + i);
}

void AdamWOnTarget(Context& context, const AdamWArgs& args) {
  const Factors factors(args);
  constexpr size_t kTask = 16384;
  context.pool().ParallelFor((args.count + kTask - 1) / kTask, [&](size_t task, size_t) {
    const DF df;
    const hn::CappedTag<float, 1> one;
    const size_t end = std::min(args.count, (task + 1) * kTask);
    size_t i = task * kTask;
    for (; i + kLanes <= end; i += kLanes) Update(df, args, factors, i);
    for (; i < end; ++i) Update(one, args, factors, i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(SquaredNormOnTarget);
HWY_EXPORT(AdamWOnTarget);

double SquaredNorm(Context& context, const float* values, size_t count) {
  CheckSquaredNorm(values, count);
  return HWY_DYNAMIC_DISPATCH(SquaredNormOnTarget)(context, values, count);
}

void AdamW(Context& context, const AdamWArgs& args) {
  CheckAdamW(args);
  HWY_DYNAMIC_DISPATCH(AdamWOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
