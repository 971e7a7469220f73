// Sizes of blocks, tiles and shared memory: what launches and kernels must agree on.
#pragma once

#include "native/backend/cuda/kernels/layout.h"

namespace nextscale::cuda {

// ------------------------------------------------------------------ linear

inline constexpr int kTileK = 64;  // numbers of k in one stage of a tile: rows of 128 bytes

// Block of threads and its tile: kRows × kColumns outputs, each warp kWarpRows × kWarpColumns of them.
template <int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_, int kStages_>
struct TileShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kStages = kStages_;
  static constexpr int kWarpsDown = kRows / kWarpRows;
  static constexpr int kThreads = kWarpsDown * (kColumns / kWarpColumns) * 32;
  static constexpr int kStageBytes = (kRows + kColumns) * kTileK * 2;
  // Of the f32 results on their way out: pairs of them from the accumulators and quads to the rows meet no bank twice.
  static constexpr int kStagedStride = kColumns + 8;
  static constexpr int kStagedBytes = kRows * kStagedStride * 4;
  static constexpr int kSharedBytes = kStages * kStageBytes > kStagedBytes ? kStages* kStageBytes : kStagedBytes;
};
using LargeTile = TileShape<128, 128, 64, 32, 3>;
// Behind the stages of a wide tile: a barrier for each, which counts the bytes of its weights.
inline constexpr int kWideSharedBytes = LargeTile::kSharedBytes + 64;
static_assert(kWideSharedBytes <= 113 << 10);  // two blocks of a multiprocessor
using SmallTile = TileShape<64, 64, 32, 32, 4>;
// Where small tiles are fewer than multiprocessors: twice as many, and more of the weights on their way at a time.
using NarrowTile = TileShape<64, 32, 32, 16, 8>;

// Any shape, any format.
inline constexpr int kPlainTile = 64, kPlainK = 16, kPlainThreads = 256;
inline constexpr int kPlainSharedBytes = 2 * kPlainK * (kPlainTile + 4) * 4;
static_assert(kPlainSharedBytes <= 48 << 10);

// ------------------------------------------------------------------ attention

inline constexpr int kKeyBlock = 64;

template <int kHeadDim_, int kWarps_>
struct AttentionShape {
  static constexpr int kHeadDim = kHeadDim_;  // 64 or 128: head sizes up to it, in multiples of 8
  static constexpr int kWarps = kWarps_, kThreads = 32 * kWarps, kQueries = 16 * kWarps;
  static constexpr int kPieces = kHeadDim / 8;
  static constexpr int kBlockBytes = kKeyBlock * kHeadDim * 2;
  static constexpr int kSharedBytes = kQueries * kHeadDim * 2 + 4 * kBlockBytes;  // q, two stages of k and v
};

inline constexpr uint32_t kPlainHeadDim = 128;  // any format, heads up to this
inline constexpr uint32_t kWideHeadDim = 1024, kWideThreads = 256;
inline constexpr uint32_t kWideKeys = 10240;  // what shared memory holds

// ------------------------------------------------------------------ sampling

inline constexpr int kSampleThreads = 256;

struct SampleShared {
  uint32_t limbs[3][256];  // of sums of weights, see AddWeight
  uint64_t warp_sums[kSampleThreads / 32];
  uint64_t below;
  uint32_t counts[256];
  uint32_t found, digit, remaining, max_key, bad, best, last, unused;
};
NS_HOST_DEVICE constexpr uint32_t SampleSharedBytes(uint32_t codebook_size) {
  return static_cast<uint32_t>(sizeof(SampleShared)) + codebook_size * 4;
}

// ------------------------------------------------------------------ norms, maps, losses

inline constexpr int kNormWarps = 4;
inline constexpr uint32_t kPiecePixels = 64;  // of one piece of a map in group norm
inline constexpr int kGroupNormWarps = 8;

inline constexpr int kMapThreads = 256;

inline constexpr int kLossThreads = 256;
struct LossShared {
  float partial[kLossThreads / 32];
};

}  // namespace nextscale::cuda
