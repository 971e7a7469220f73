// The tanh form of GELU, per SIMD target: gelu(y) = y · s, s = 0.5 (1 + tanh(u)) = 1 / (1 + e^(−2u)),
// u = √(2/π) (y + 0.044715 y³).
#if defined(NEXTSCALE_BACKEND_CPU_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEXTSCALE_BACKEND_CPU_GELU_INL_H_
#undef NEXTSCALE_BACKEND_CPU_GELU_INL_H_
#else
#define NEXTSCALE_BACKEND_CPU_GELU_INL_H_
#endif

#include "native/backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {

inline constexpr float kGeluCubic = 0.044715f;
inline constexpr float kGeluFactor = 0.79788456080286535588f;  // √(2/π)

// e^(−2u), at most 2^126.
HWY_INLINE VF GeluExponential(DF df, VF y) {
  const VF square = hn::Mul(y, y);
  const VF u = hn::Mul(y, hn::MulAdd(square, hn::Set(df, kGeluCubic), hn::Set(df, 1.0f)));
  constexpr float kFactor = -2.0f * kGeluFactor * 1.44269504088896340736f;
  return Exp2(df, hn::Min(hn::Mul(u, hn::Set(df, kFactor)), hn::Set(df, 126.0f)));
}

HWY_INLINE VF Gelu(DF df, VF y) { return hn::Div(y, hn::Add(hn::Set(df, 1.0f), GeluExponential(df, y))); }

// gelu'(y) = s + y · s (1 − s) · 2 √(2/π) (1 + 3 · 0.044715 y²). Sets s.
HWY_INLINE VF GeluSlope(DF df, VF y, VF& s) {
  const VF e = GeluExponential(df, y);
  s = hn::Div(hn::Set(df, 1.0f), hn::Add(hn::Set(df, 1.0f), e));
  // Beyond |y| = 100, s (1 − s) is nothing, whatever it is multiplied by; within, the bound changes nothing.
  const VF square = hn::Min(hn::Mul(y, y), hn::Set(df, 1e4f));
  const VF du = hn::MulAdd(square, hn::Set(df, 6.0f * kGeluCubic * kGeluFactor), hn::Set(df, 2.0f * kGeluFactor));
  // s (1 − s) as e · s · s: the difference would cancel where s is close to 1.
  return hn::MulAdd(y, hn::Mul(hn::Mul(hn::Mul(e, s), s), du), s);
}

}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();
#endif  // NEXTSCALE_BACKEND_CPU_GELU_INL_H_
