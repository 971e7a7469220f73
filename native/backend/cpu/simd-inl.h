// Loads that widen, stores that round, and exponentials, per SIMD target.
#if defined(NEXTSCALE_BACKEND_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEXTSCALE_BACKEND_CPU_SIMD_INL_H_
#undef NEXTSCALE_BACKEND_CPU_SIMD_INL_H_
#else
#define NEXTSCALE_BACKEND_CPU_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "native/backend/cpu/simd.h"
#include "native/base/half.h"
// After simd.h: it chooses the targets.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
inline constexpr size_t kLanes = HWY_LANES(float);

// Lanes(df) numbers at `from` (any alignment that T has), widened to f32. Exact.
HWY_INLINE VF LoadWide(DF df, const float* HWY_RESTRICT from) { return hn::LoadU(df, from); }
HWY_INLINE VF LoadWide(DF df, const hwy::float16_t* HWY_RESTRICT from) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(df, hn::LoadU(dh, from));
}
HWY_INLINE VF LoadWide(DF df, const hwy::bfloat16_t* HWY_RESTRICT from) {
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> dh;
  return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, reinterpret_cast<const uint16_t*>(from)))));
}

// Rows of any length: to[i] = from[i], widened or rounded.
template <typename T>
HWY_INLINE void WidenRow(const T* HWY_RESTRICT from, size_t count, float* HWY_RESTRICT to) {
  const DF df;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(LoadWide(df, from + i), df, to + i);
  if (i == count) return;
  T rest[kLanes] = {};
  float wide[kLanes];
  std::memcpy(rest, from + i, (count - i) * sizeof(T));
  hn::StoreU(LoadWide(df, rest), df, wide);
  std::memcpy(to + i, wide, (count - i) * sizeof(float));
}

// Stores Lanes(df) numbers, rounded to the nearest (ties to even).
HWY_INLINE void StoreRounded(DF df, VF v, float* HWY_RESTRICT to) { hn::StoreU(v, df, to); }
HWY_INLINE void StoreRounded(DF df, VF v, hwy::float16_t* HWY_RESTRICT to) {
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  // No instruction for it, and Highway's substitute does not round subnormals to the nearest.
  float lanes[kLanes];
  hn::StoreU(v, df, lanes);
  for (size_t i = 0; i < kLanes; ++i) to[i].bits = F16FromFloat(lanes[i]);
#else
  const hn::Rebind<hwy::float16_t, DF> dh;
  (void)df;
  hn::StoreU(hn::DemoteTo(dh, v), dh, to);
#endif
}
HWY_INLINE void StoreRounded(DF df, VF v, hwy::bfloat16_t* HWY_RESTRICT to) {
  const hn::RebindToUnsigned<DF> du;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint16_t, DF> dh;
  (void)df;
  const auto bits = hn::BitCast(du, v);
  const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), even));
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, rounded)), dh, reinterpret_cast<uint16_t*>(to));
}

template <typename T>
HWY_INLINE void NarrowRow(const float* HWY_RESTRICT from, size_t count, T* HWY_RESTRICT to) {
  const DF df;
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) StoreRounded(df, hn::LoadU(df, from + i), to + i);
  if (i == count) return;
  float rest[kLanes] = {};
  T narrow[kLanes];
  std::memcpy(rest, from + i, (count - i) * sizeof(float));
  StoreRounded(df, hn::LoadU(df, rest), narrow);
  std::memcpy(to + i, narrow, (count - i) * sizeof(T));
}

// 2^x, relative error 2e-7; 0 below -126; NaN stays. x <= 127.
HWY_INLINE VF Exp2(DF df, VF x) {
  const hn::RebindToSigned<DF> di;
  const auto too_small = hn::Lt(x, hn::Set(df, -126.0f));
  x = hn::IfThenElse(too_small, hn::Set(df, -126.0f), x);
  // Adding 1.5 · 2^23 leaves the nearest integer in the low bits. (A conversion would also repair overflow: slower.)
  const VF magic = hn::Set(df, 12582912.0f);
  const VF shifted = hn::Add(x, magic);
  const VF whole = hn::Sub(shifted, magic);
  const VF r = hn::Sub(x, whole);  // [-0.5, 0.5]
  // Minimax polynomial of degree 6 for 2^r.
  VF p = hn::Set(df, 0.00015353362f);
  p = hn::MulAdd(p, r, hn::Set(df, 0.0013398875f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.00961843692f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.0555033237f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.240226477f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.693147182f));
  p = hn::MulAdd(p, r, hn::Set(df, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::IfThenZeroElse(too_small, hn::BitCast(df, hn::Add(hn::BitCast(di, p), exponent)));
}

// e^x, relative error 2e-7 · (1 + |x|/2); 0 below -87.3. x <= 88.
HWY_INLINE VF Exp(DF df, VF x) { return Exp2(df, hn::Mul(x, hn::Set(df, 1.44269504088896340736f))); }

// One element at any address.
template <typename T>
HWY_INLINE T LoadBytes(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

#if HWY_TARGET != HWY_SCALAR
// Transposes a square block of one 128-bit vector per row: to[c · to_stride + r] = from[r · from_stride + c].
// Strides in elements; `from` at any address.
HWY_INLINE void TransposeBlock(const std::byte* from, size_t from_stride, uint32_t* HWY_RESTRICT to, size_t to_stride) {
  const hn::FixedTag<uint32_t, 4> d;
  const hn::FixedTag<uint64_t, 2> dw;
  const auto load = [&](size_t r) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(from + r * from_stride * 4));
  };
  const auto a = load(0), b = load(1), c = load(2), e = load(3);
  const auto ab0 = hn::BitCast(dw, hn::InterleaveLower(d, a, b)), ab1 = hn::BitCast(dw, hn::InterleaveUpper(d, a, b));
  const auto ce0 = hn::BitCast(dw, hn::InterleaveLower(d, c, e)), ce1 = hn::BitCast(dw, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab0, ce0)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab0, ce0)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab1, ce1)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab1, ce1)), d, to + 3 * to_stride);
}
HWY_INLINE void TransposeBlock(const std::byte* from, size_t from_stride, uint16_t* HWY_RESTRICT to, size_t to_stride) {
  const hn::FixedTag<uint16_t, 8> d;
  const hn::FixedTag<uint32_t, 4> d2;
  const hn::FixedTag<uint64_t, 2> d4;
  const auto load = [&](size_t r) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const uint16_t*>(from + r * from_stride * 2));
  };
  // Rows 2i and 2i+1 interleaved, then pairs of pairs, then halves.
  for (size_t half = 0; half < 2; ++half) {
    const auto pair = [&](size_t r) HWY_ATTR {
      const auto x = load(r), y = load(r + 1);
      return hn::BitCast(d2, half == 0 ? hn::InterleaveLower(d, x, y) : hn::InterleaveUpper(d, x, y));
    };
    const auto p0 = pair(0), p1 = pair(2), p2 = pair(4), p3 = pair(6);
    const auto q0 = hn::BitCast(d4, hn::InterleaveLower(d2, p0, p1)),
               q1 = hn::BitCast(d4, hn::InterleaveUpper(d2, p0, p1));
    const auto q2 = hn::BitCast(d4, hn::InterleaveLower(d2, p2, p3)),
               q3 = hn::BitCast(d4, hn::InterleaveUpper(d2, p2, p3));
    uint16_t* HWY_RESTRICT rows = to + 4 * half * to_stride;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d4, q0, q2)), d, rows);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d4, q0, q2)), d, rows + to_stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d4, q1, q3)), d, rows + 2 * to_stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d4, q1, q3)), d, rows + 3 * to_stride);
  }
}
#endif

// Packs rows [num_rows, k] of raw bits (uint32_t or uint16_t) into a panel [k][width], width >= num_rows, zero padded.
template <typename Bits>
void PackPanel(const std::byte* rows, size_t row_stride, size_t num_rows, size_t k, size_t width,
               Bits* HWY_RESTRICT panel) {
  size_t whole_rows = 0, whole_k = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kSide = 16 / sizeof(Bits);
  whole_rows = num_rows / kSide * kSide;
  whole_k = k / kSide * kSide;
  for (size_t i = 0; i < whole_k; i += kSide) {
    for (size_t r = 0; r < whole_rows; r += kSide) {
      TransposeBlock(rows + (r * row_stride + i) * sizeof(Bits), row_stride, panel + i * width + r, width);
    }
  }
#endif
  for (size_t i = 0; i < k; ++i) {
    for (size_t r = i < whole_k ? whole_rows : 0; r < num_rows; ++r) {
      panel[i * width + r] = LoadBytes<Bits>(rows + (r * row_stride + i) * sizeof(Bits));
    }
    for (size_t r = num_rows; r < width; ++r) panel[i * width + r] = 0;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();
#endif  // NEXTSCALE_BACKEND_CPU_SIMD_INL_H_
