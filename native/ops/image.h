// Pictures into maps (conv.h) and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "native/tensor/dtype.h"

namespace nextscale {

// map[p, c] = planar[c, p]
struct ImageToMapArgs {
  void* map = nullptr;  // [pixels, stride], activations
  DType dtype = DType::kF32;
  size_t stride = 0;
  const float* planar = nullptr;  // [channels, pixels]
  size_t num_pixels = 0, channels = 0;
};

// v = (clamp(map[p, c], −1, 1) + 1) / 2; planar[c, p] = v, or bytes[p, c] = round(255 v). One of the two is set.
struct MapToImageArgs {
  float* planar = nullptr;     // [channels, pixels]
  uint8_t* bytes = nullptr;    // [pixels, channels]
  const float* map = nullptr;  // [pixels, stride]
  size_t stride = 0;
  size_t num_pixels = 0, channels = 0;
};

}  // namespace nextscale
