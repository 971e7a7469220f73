// The only place that knows instruction sets: which ones are compiled, and which one this machine runs.
//
// Kernels are written once against Google Highway and compiled for every target below (files named *-inl.h are included
// once per target); HWY_DYNAMIC_DISPATCH picks at run time. Include this header before any Highway header.
#pragma once

// x86: SSE4, AVX2 and AVX-512 (steps between and above them bring these kernels nothing). Arm: NEON (vectors of SVE
// have no size at compile time). Bits, not names, because older releases of Highway lack some of the names: 0..7 above
// AVX-512's common subset, 12 SSSE3, 14 SSE2, 24..27 SVE.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS 0x0F0050FFLL
#endif

#include <hwy/targets.h>

#include <cstdint>
#include <string_view>

namespace nextscale {

// Name of the instruction set that the kernels use on this machine: "SSE4", "AVX2", "AVX3" (AVX-512), "NEON".
// Highway numbers its targets so that a better one has a lower bit.
inline std::string_view SimdTargetName() {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);
}

}  // namespace nextscale
