// The gradient of GELU over rows.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/gelu_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "native/backend/cpu/gelu-inl.h"
#include "native/backend/cpu/kernels.h"
#include "native/ops/check_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

// Fewer than a vector's numbers, without touching what follows them.
HWY_INLINE VF LoadFew(DF df, const float* from, size_t count) {
  float lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::LoadU(df, lanes);
}
HWY_INLINE void StoreFew(DF df, VF v, float* to, size_t count) {
  float lanes[kLanes];
  hn::StoreU(v, df, lanes);
  std::memcpy(to, lanes, count * sizeof(float));
}

template <typename Body>  // body(row)
void ForEachRow(Context& context, size_t num_rows, size_t width, const Body& body) {
  constexpr size_t kTaskFloats = 16384;  // tens of microseconds
  const size_t task_rows = std::max<size_t>(1, kTaskFloats / std::max<size_t>(1, width));
  context.pool().ParallelFor((num_rows + task_rows - 1) / task_rows, [&](size_t task, size_t) {
    for (size_t row = task * task_rows; row < std::min(num_rows, (task + 1) * task_rows); ++row) body(row);
  });
}

void GeluGradientOnTarget(Context& context, const GeluGradientArgs& args) {
  ForEachRow(context, args.num_rows, args.width, [&](size_t row) HWY_ATTR {
    const DF df;
    const size_t first = row * args.stride, end = first + args.width;
    size_t i = first;
    for (; i + kLanes <= end; i += kLanes) {
      const VF y = hn::LoadU(df, args.u + i);
      VF s;
      const VF slope = GeluSlope(df, y, s);
      hn::StoreU(hn::Mul(hn::LoadU(df, args.dout + i), slope), df, args.du + i);
      if (args.out != nullptr) hn::StoreU(hn::Mul(y, s), df, args.out + i);
    }
    if (i == end) return;
    const VF y = LoadFew(df, args.u + i, end - i);
    VF s;
    const VF slope = GeluSlope(df, y, s);
    StoreFew(df, hn::Mul(LoadFew(df, args.dout + i, end - i), slope), args.du + i, end - i);
    if (args.out != nullptr) StoreFew(df, hn::Mul(y, s), args.out + i, end - i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(GeluGradientOnTarget);

void GeluGradient(Context& context, const GeluGradientArgs& args) {
  CheckGeluGradient(args);
  HWY_DYNAMIC_DISPATCH(GeluGradientOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
