// Weights of a file in the number format of the device.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/base/half.h"
#include "native/tensor/tensor_table.h"

namespace nextscale::cuda {

// Elements first .. first + count of `weights` in `dtype`, at `out`. Throws kNotFinite that names the first element that is
// NaN or infinite, or too large for the format.
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
    throw Error(ErrorCode::kNotFinite, Message(name, ": ", scratch[i], " at [", at, "] is not a number of ", DTypeName(dtype)));
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

}  // namespace nextscale::cuda
