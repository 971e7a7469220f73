// What the kernel tests share: every instruction set of this machine in turn, random numbers, and number formats
// written a second time, in plain arithmetic.
#pragma once

#include "native/backend/cpu/simd.h"
// After simd.h: it chooses the targets.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native/tensor/dtype.h"
#include "test/native/ops/random.h"

namespace nextscale::test {

// Runs `body` once per compiled instruction set that this machine supports.
template <typename Body>
void ForEachTarget(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();  // the next dispatch chooses again
    body();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
}

// Nearest number with `bits` significant bits and exponents from `lowest` up, ties to even.
inline float RoundTo(float x, int bits, int lowest) {
  if (x == 0.0f || !std::isfinite(x)) return x;
  const int unit = std::max(std::ilogb(x), lowest) - (bits - 1);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(x), -unit)), unit));
}

inline float Round(float x, DType dtype) {
  return dtype == DType::kF32 ? x : dtype == DType::kF16 ? RoundTo(x, 11, -14) : RoundTo(x, 8, -126);
}

// Bits of a number that Round left unchanged.
inline uint16_t HalfBits(float x, DType dtype) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (dtype == DType::kBF16) return static_cast<uint16_t>(bits >> 16);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = std::fabs(x);
  if (magnitude < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<int>(magnitude * 0x1p24f));
  const int exponent = std::ilogb(magnitude);
  const int mantissa = static_cast<int>(std::ldexp(magnitude, 10 - exponent)) - 1024;
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 | mantissa);
}

inline float FromBits(uint16_t bits, DType dtype) {
  if (dtype == DType::kBF16) return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return static_cast<float>(bits >> 15 != 0 ? -magnitude : magnitude);
}

// Values (already rounded) as raw bytes of the format, starting one byte into the result when `unaligned`.
inline std::vector<std::byte> Store(const std::vector<float>& values, DType dtype, bool unaligned = false) {
  const size_t size = DTypeBytes(dtype), offset = unaligned ? 1 : 0;
  std::vector<std::byte> bytes(values.size() * size + offset);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = dtype == DType::kF32 ? uint16_t{0} : HalfBits(values[i], dtype);
    std::memcpy(bytes.data() + offset + i * size, size == 4 ? static_cast<const void*>(&values[i]) : &half, size);
  }
  return bytes;
}

inline float Load(const std::byte* bytes, size_t index, DType dtype) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, bytes + 4 * index, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes + 2 * index, 2);
  return FromBits(half, dtype);
}

inline constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

}  // namespace nextscale::test
