// The gradient of the L2 normalisation of the heads of q and k.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/split_heads_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLeastNorm = 1e-12f;

HWY_INLINE float Dot(const float* a, const float* b, size_t count) {
  const DF df;
  VF sum = hn::Zero(df);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum = hn::MulAdd(hn::LoadU(df, a + i), hn::LoadU(df, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(df, sum));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

// body(row, offset of the head in a row, head, whether it is k's, place in inverse_norms) for q and k of every row.
template <typename Args, typename Body>
void ForEachHead(Context& context, const Args& args, const Body& body) {
  constexpr size_t kTaskFloats = 16384;
  const size_t width = args.num_heads * args.head_dim;
  const size_t task_rows = std::max<size_t>(1, kTaskFloats / (2 * width));
  context.pool().ParallelFor((args.num_rows + task_rows - 1) / task_rows, [&](size_t task, size_t) {
    for (size_t row = task * task_rows; row < std::min(args.num_rows, (task + 1) * task_rows); ++row) {
      for (size_t i = 0; i < 2 * args.num_heads; ++i) {
        const bool is_key = i >= args.num_heads;
        body(row * args.qkv_stride + i * args.head_dim, i % args.num_heads, is_key, row * 2 * args.num_heads + i);
      }
    }
  });
}

void SplitHeadsGradientOnTarget(Context& context, const SplitHeadsGradientArgs& args) {
  // First the sums over rows, one head a task: below, dq is overwritten.
  context.pool().ParallelFor(args.num_heads, [&](size_t head, size_t) {
    double sum = 0;
    for (size_t row = 0; row < args.num_rows; ++row) {
      const size_t at = row * args.qkv_stride + head * args.head_dim;
      sum += static_cast<double>(Dot(args.dqkv + at, args.qkv + at, args.head_dim));
    }
    args.dhead_factor[head] += static_cast<float>(sum / static_cast<double>(args.head_factor[head]));
  });
  // x̂ = x / ‖x‖: dx = (dx̂ − x̂ (x̂ · dx̂)) / ‖x‖; q is x̂ · factor, so dx̂ = dq · factor. A vector shorter than the least
  // norm was only scaled: no projection.
  ForEachHead(context, args, [&](size_t at, size_t head, bool is_key, size_t norm) {
    float* const dx = args.dqkv + at;
    const float* const x = args.qkv + at;
    const float inverse = args.inverse_norms[norm], factor = is_key ? 1.0f : args.head_factor[head];
    const bool projected = inverse < 1.0f / kLeastNorm;
    const float along = projected ? Dot(dx, x, args.head_dim) / (factor * factor) : 0.0f;
    const float scale = inverse * factor;
    for (size_t d = 0; d < args.head_dim; ++d) dx[d] = scale * (dx[d] - along * x[d]);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(SplitHeadsGradientOnTarget);

void SplitHeadsGradient(Context& context, const SplitHeadsGradientArgs& args) {
  CheckSplitHeadsGradient(args);
  HWY_DYNAMIC_DISPATCH(SplitHeadsGradientOnTarget)(context, args);
}

namespace {
constexpr float kMostScale = 4.60517018598809136804f;  // ln 100
}

void HeadFactors(Context&, const HeadFactorArgs& args) {
  CheckHeadFactors(args);
  for (size_t h = 0; h < args.num_heads; ++h) args.head_factor[h] = std::exp(std::min(args.scale_mul[h], kMostScale));
}

void HeadFactorsGradient(Context&, const HeadFactorGradientArgs& args) {
  CheckHeadFactorsGradient(args);
  for (size_t h = 0; h < args.num_heads; ++h) {
    if (args.scale_mul[h] <= kMostScale) args.dscale_mul[h] += args.dhead_factor[h] * args.head_factor[h];
  }
}

}  // namespace nextscale
#endif  // HWY_ONCE
