// Gathering a patch of a convolution's input: upsampling, normalisation with SiLU and zero padding happen here, so that
// the multiplying loops see a plain dense patch. Compiled per SIMD target.
#if defined(NEXTSCALE_BACKEND_CPU_CONV_STAGE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEXTSCALE_BACKEND_CPU_CONV_STAGE_INL_H_
#undef NEXTSCALE_BACKEND_CPU_CONV_STAGE_INL_H_
#else
#define NEXTSCALE_BACKEND_CPU_CONV_STAGE_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "native/backend/cpu/simd-inl.h"
#include "native/ops/conv.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {

// x · sigmoid(x)
HWY_INLINE VF Silu(DF df, VF x) {
  const VF exponent = hn::Min(hn::Mul(x, hn::Set(df, -1.44269504088896340736f)), hn::Set(df, 126.0f));
  return hn::Div(x, hn::Add(hn::Set(df, 1.0f), Exp2(df, exponent)));
}

// A rectangle of the input as the 3×3 window sees it: pixels y0..y0+height-1 by x0..x0+width-1 (negative and beyond the
// map: padding), channels c0..c1-1 rounded up to whole vectors.
struct Patch {
  ptrdiff_t y0 = 0, x0 = 0;
  size_t height = 0, width = 0;
  size_t c0 = 0, c1 = 0;
};

// to[(y · patch.width + x) · to_stride + c - c0]; to_stride >= c1 - c0 rounded up to whole vectors.
inline void StagePatch(const ConvArgs& args, const Patch& patch, float* HWY_RESTRICT to, size_t to_stride) {
  const DF df;
  const size_t shift_bits = args.kind == ConvKind::kUp ? 1 : 0;
  const ptrdiff_t map_height = static_cast<ptrdiff_t>(args.in_height << shift_bits);
  const ptrdiff_t map_width = static_cast<ptrdiff_t>(args.in_width << shift_bits);
  const size_t floats = (patch.c1 - patch.c0 + kLanes - 1) / kLanes * kLanes;
  const float* gain = args.gain == nullptr ? nullptr : args.gain + patch.c0;
  const float* shift = args.shift == nullptr ? nullptr : args.shift + patch.c0;
  for (size_t i = 0; i < patch.height; ++i) {
    const ptrdiff_t y = patch.y0 + static_cast<ptrdiff_t>(i);
    for (size_t j = 0; j < patch.width; ++j, to += to_stride) {
      const ptrdiff_t x = patch.x0 + static_cast<ptrdiff_t>(j);
      if (y < 0 || y >= map_height || x < 0 || x >= map_width) {
        for (size_t c = 0; c < floats; c += kLanes) hn::Store(hn::Zero(df), df, to + c);
        continue;
      }
      const size_t pixel =
          (static_cast<size_t>(y) >> shift_bits) * args.in_width + (static_cast<size_t>(x) >> shift_bits);
      const float* from = static_cast<const float*>(args.in) + pixel * args.in_stride + patch.c0;
      if (gain == nullptr) {
        for (size_t c = 0; c < floats; c += kLanes) hn::Store(hn::LoadU(df, from + c), df, to + c);
      } else {
        for (size_t c = 0; c < floats; c += kLanes) {
          const VF normal = hn::MulAdd(hn::LoadU(df, from + c), hn::LoadU(df, gain + c), hn::LoadU(df, shift + c));
          hn::Store(Silu(df, normal), df, to + c);
        }
      }
    }
  }
}

// A stride of at least `floats` that is an odd number of cache lines: no two of a few dozen consecutive rows compete
// for the same cache set.
constexpr size_t OddLines(size_t floats) { return ((floats + 15) / 16 | 1) * 16; }

}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();
#endif  // NEXTSCALE_BACKEND_CPU_CONV_STAGE_INL_H_
