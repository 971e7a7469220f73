// Index arithmetic of the kernels, in functions that the host, the device and the compiler can all run.
#pragma once

#include <cstdint>

#include "native/backend/cuda/kernels/calls.h"

#if defined(__CUDACC__)
#define NS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define NS_HOST_DEVICE inline
#endif

namespace nextscale::cuda {

NS_HOST_DEVICE constexpr uint32_t DivideUp(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
NS_HOST_DEVICE constexpr uint32_t ElementBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Byte offset of 16-byte piece `chunk` of row `row` in a tile whose rows are kChunks pieces (a multiple of 8). The low
// three bits of the piece are mixed with the row's, so eight consecutive rows of one column of pieces, which is what
// ldmatrix reads, and eight consecutive pieces of one row, which is what cp.async writes, both touch all 32 banks.
template <int kChunks>
NS_HOST_DEVICE constexpr uint32_t SwizzledOffset(uint32_t row, uint32_t chunk) {
  static_assert(kChunks % 8 == 0);
  return (row * kChunks + (chunk ^ (row & 7))) * 16;
}

// Weights in half precision stand in memory as the tiles of a kernel's stage do in shared memory: 64 columns of 64
// numbers of k, swizzled, 8 KiB that one bulk copy takes; tile after tile along k, then along n. Zeros fill the last
// ones.
inline constexpr uint32_t kWeightTile = 64, kWeightTileBytes = kWeightTile * kWeightTile * 2;
NS_HOST_DEVICE constexpr uint32_t WeightTiles(uint32_t size) { return DivideUp(size, kWeightTile); }
// Byte offset of the piece of 8 numbers that holds number k of a column. A column has `num_k` numbers.
NS_HOST_DEVICE constexpr uint64_t WeightPiece(uint32_t column, uint32_t k, uint32_t num_k) {
  const uint64_t tile = uint64_t{column / kWeightTile} * WeightTiles(num_k) + k / kWeightTile;
  return tile * kWeightTileBytes + SwizzledOffset<8>(column % kWeightTile, k % kWeightTile / 8);
}
// Bytes of weights [n, k]; f32 is row-major.
NS_HOST_DEVICE constexpr uint64_t WeightBytes(uint32_t n, uint32_t k, DType dtype) {
  return dtype == DType::kF32 ? uint64_t{n} * k * 4 : uint64_t{WeightTiles(n)} * WeightTiles(k) * kWeightTileBytes;
}

// Row of keys and values behind a slot number. row_bytes = 2 · C · element bytes.
NS_HOST_DEVICE unsigned char* KvRow(const KvMemory& kv, uint32_t slot, uint64_t row_bytes) {
  return (slot & kTailBit) != 0 ? kv.tail + (slot & ~kTailBit) * row_bytes : kv.pool + slot * row_bytes;
}

// The span of a compact row, and its row in x.
NS_HOST_DEVICE SpanTarget TargetOf(const RowTables& rows, uint32_t row) { return rows.spans[rows.span_of_row[row]]; }
NS_HOST_DEVICE uint32_t RowInX(const SpanTarget& target, uint32_t row) {
  return target.x_row + row - target.compact_row;
}

inline constexpr uint64_t kOutside = ~uint64_t{0};

// Element offset in the input map of a convolution for one output pixel (over all images), tap 0..8 and channel;
// kOutside in the zero padding.
NS_HOST_DEVICE constexpr uint64_t ConvOffset(const ConvInput& conv, uint32_t pixel, uint32_t tap, uint32_t channel) {
  const uint32_t per_image = conv.out_height * conv.out_width;
  const uint32_t image = pixel / per_image, rest = pixel % per_image;
  const int dy = static_cast<int>(tap / 3), dx = static_cast<int>(tap % 3);
  int y = static_cast<int>(rest / conv.out_width), x = static_cast<int>(rest % conv.out_width);
  int height = static_cast<int>(conv.in_height), width = static_cast<int>(conv.in_width);
  if (conv.shape == ConvShape::kDown) {  // stride 2, padding below and to the right only
    y = 2 * y + dy;
    x = 2 * x + dx;
  } else {
    y += dy - 1;
    x += dx - 1;
  }
  const bool up = conv.shape == ConvShape::kUp;  // coordinates of the doubled map
  if (y < 0 || x < 0 || y >= (up ? 2 * height : height) || x >= (up ? 2 * width : width)) return kOutside;
  if (up) {
    y /= 2;
    x /= 2;
  }
  const uint64_t in_pixel =
      (uint64_t{image} * conv.in_height + static_cast<uint32_t>(y)) * conv.in_width + static_cast<uint32_t>(x);
  return in_pixel * conv.cin + channel;
}

// First and one-past-last input index of an adaptive average pooling cell.
NS_HOST_DEVICE constexpr uint32_t AreaFirst(uint32_t index, uint32_t in_side, uint32_t out_side) {
  return index * in_side / out_side;
}
NS_HOST_DEVICE constexpr uint32_t AreaLast(uint32_t index, uint32_t in_side, uint32_t out_side) {
  return DivideUp((index + 1) * in_side, out_side);
}

}  // namespace nextscale::cuda
