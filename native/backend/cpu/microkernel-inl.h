// The one inner loop of matrix products: a few rows of A times one panel of B, accumulators in registers.
// Shared by linear layers, attention and convolutions; compiled per SIMD target.
//
//   tile[r · tile_stride + j]  =  (accumulate ? tile[r · tile_stride + j] : 0)  +  Σ_k a[r · a_stride + k] · b[k ·
//   kPanel + j] r < rows (1..kTileRows), j < kPanel (always the whole panel), k ascending: one chain of (fused)
//   multiply-adds for each element. So an element does not depend on `rows`, and a sum cut into several calls with
//   accumulate = true (taps of a convolution, key blocks) is bit-identical to the sum in one call.
//
// B is packed in panels [k][kPanel] of float, hwy::float16_t or hwy::bfloat16_t (widened on load), aligned to 64 bytes.
// `ahead` (optional): memory that is wanted next; ahead_step bytes of it per k are prefetched, k · ahead_step in all.
// A and the tile need float alignment only. Choose a_stride so that it is not a multiple of 4096 bytes (rows would
// compete for the same cache lines). kTileRows and kPanel are constants of the target; use EvenTiles to split rows.
#if defined(NEXTSCALE_BACKEND_CPU_MICROKERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEXTSCALE_BACKEND_CPU_MICROKERNEL_INL_H_
#undef NEXTSCALE_BACKEND_CPU_MICROKERNEL_INL_H_
#else
#define NEXTSCALE_BACKEND_CPU_MICROKERNEL_INL_H_
#endif

#include <hwy/cache_control.h>

#include <array>
#include <utility>

#include "native/backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {

inline constexpr size_t kPanel = 2 * kLanes;
// Accumulators (two vectors per row) + two vectors of B + a broadcast must fit the register file:
// 32 registers on AVX-512 and NEON, 16 on AVX2 and SSE4.
inline constexpr size_t kTileRows = HWY_MAX_BYTES == 64 ? 14 : (HWY_TARGET == HWY_NEON ? 10 : 6);
inline constexpr size_t kMaxTileFloats = kTileRows * kPanel;

// Splits `rows` into the fewest tiles of at most kTileRows, sizes differing by at most one (a tile of one row would
// read a whole panel for the work of one row).
struct EvenTiles {
  explicit EvenTiles(size_t rows) : count((rows + kTileRows - 1) / kTileRows), rows_(rows) {}
  size_t begin(size_t tile) const { return tile * rows_ / count; }
  size_t size(size_t tile) const { return begin(tile + 1) - begin(tile); }
  size_t count;

 private:
  size_t rows_;
};

template <typename T, size_t... kRow>
HWY_INLINE void MultiplyRows(std::index_sequence<kRow...>, const float* HWY_RESTRICT a, size_t a_stride,
                             const T* HWY_RESTRICT b, size_t k, bool accumulate, float* HWY_RESTRICT tile,
                             size_t tile_stride, const std::byte* ahead, size_t ahead_step) {
  const DF df;
  VF sum0[sizeof...(kRow)], sum1[sizeof...(kRow)];
  if (accumulate) {
    ((sum0[kRow] = hn::LoadU(df, tile + kRow * tile_stride),
      sum1[kRow] = hn::LoadU(df, tile + kRow * tile_stride + kLanes)),
     ...);
  } else {
    ((sum0[kRow] = hn::Zero(df), sum1[kRow] = hn::Zero(df)), ...);
  }
  for (size_t i = 0; i < k; ++i, b += kPanel) {
    hwy::Prefetch(ahead);
    ahead += ahead_step;
    const VF b0 = LoadWide(df, b), b1 = LoadWide(df, b + kLanes);
    VF x;
    ((x = hn::Set(df, a[kRow * a_stride + i]), sum0[kRow] = hn::MulAdd(x, b0, sum0[kRow]),
      sum1[kRow] = hn::MulAdd(x, b1, sum1[kRow])),
     ...);
  }
  ((hn::StoreU(sum0[kRow], df, tile + kRow * tile_stride),
    hn::StoreU(sum1[kRow], df, tile + kRow * tile_stride + kLanes)),
   ...);
}

template <typename T, size_t kRows>
HWY_NOINLINE void MultiplyFixed(const float* a, size_t a_stride, const T* b, size_t k, bool accumulate, float* tile,
                                size_t tile_stride, const std::byte* ahead, size_t ahead_step) {
  MultiplyRows(std::make_index_sequence<kRows>(), a, a_stride, b, k, accumulate, tile, tile_stride, ahead, ahead_step);
}

template <typename T, size_t... kRow>
constexpr auto MultiplyTable(std::index_sequence<kRow...>) {
  return std::array{&MultiplyFixed<T, kRow + 1>...};
}

// See the top of this file.
template <typename T>
HWY_INLINE void MultiplyTile(size_t rows, const float* a, size_t a_stride, const T* b, size_t k, bool accumulate,
                             float* tile, size_t tile_stride, const std::byte* ahead = nullptr, size_t ahead_step = 0) {
  static constexpr auto kTable = MultiplyTable<T>(std::make_index_sequence<kTileRows>());
  // With nothing to prefetch: a line that is there already.
  if (ahead == nullptr) ahead = reinterpret_cast<const std::byte*>(tile);
  kTable[rows - 1](a, a_stride, b, k, accumulate, tile, tile_stride, ahead, ahead_step);
}

}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();
#endif  // NEXTSCALE_BACKEND_CPU_MICROKERNEL_INL_H_
