// Weights of a file in the number format and the layout of the device.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "native/backend/cuda/kernels/layout.h"
#include "native/base/error.h"
#include "native/base/half.h"
#include "native/tensor/tensor_table.h"

namespace nextscale::cuda {

// Elements first .. first + count of `weights` in `dtype`, at `out`. Throws kNotFinite that names the first element
// that is NaN or infinite, or too large for the format.
inline void ConvertElements(const TensorView& weights, size_t first, size_t count, DType dtype, const char* name,
                            std::byte* out, std::vector<float>& scratch) {
  scratch.resize(count);
  WidenToFloat(scratch.data(), weights.data + first * DTypeBytes(weights.dtype), weights.dtype, count);
  // 0 · x is 0 for every finite x: a sum without branches, looked into only when it is not.
  const float limit = dtype == DType::kF16 ? 65504.0f : 3.4028234e38f;
  bool good = true;
  for (size_t i = 0; i < count; ++i) good = good & (scratch[i] >= -limit) & (scratch[i] <= limit);
  for (size_t i = 0; i < count && !good; ++i) {
    if (scratch[i] >= -limit && scratch[i] <= limit) continue;
    std::string at;
    size_t rest = first + i;
    for (size_t d = weights.shape.size(); d-- > 0; rest /= weights.shape[d]) {
      at = std::to_string(rest % weights.shape[d]) + (at.empty() ? "" : ", ") + at;
    }
    throw Error(ErrorCode::kNotFinite,
                Message(name, ": ", scratch[i], " at [", at, "] is not a number of ", DTypeName(dtype)));
  }
  if (dtype == weights.dtype) {
    std::memcpy(out, weights.data + first * DTypeBytes(dtype), count * DTypeBytes(dtype));
  } else if (dtype == DType::kF32) {
    std::memcpy(out, scratch.data(), count * sizeof(float));
  } else {
    for (size_t i = 0; i < count; ++i) {
      const uint16_t half = dtype == DType::kBF16 ? BF16FromFloat(scratch[i]) : F16FromFloat(scratch[i]);
      std::memcpy(out + 2 * i, &half, 2);
    }
  }
}

// Up to kWeightTile rows of k halves → their tiles, WeightTiles(k) of them.
inline void PackTiles(const std::byte* rows, size_t num_rows, size_t k, std::byte* tiles) {
  std::memset(tiles, 0, WeightTiles(static_cast<uint32_t>(k)) * kWeightTileBytes);
  for (size_t row = 0; row < num_rows; ++row) {
    for (size_t i = 0; i < k; i += 8) {
      const uint64_t to = WeightPiece(static_cast<uint32_t>(row), static_cast<uint32_t>(i), static_cast<uint32_t>(k));
      std::memcpy(tiles + to, rows + (row * k + i) * 2, std::min<size_t>(8, k - i) * 2);
    }
  }
}

}  // namespace nextscale::cuda
