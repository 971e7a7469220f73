// Changing the side of square maps, and the order of their numbers.
#pragma once

#include <cstddef>

#include "native/tensor/dtype.h"

namespace nextscale {

// rows [side, side, channels] → out [out_side, out_side, channels] (both maps, see conv.h), bicubic with a = −0.75,
// half-pixel centres, no antialias, edges clamped (reference: F.interpolate(mode='bicubic', align_corners=False)). A
// copy where the sides are equal.
struct BicubicArgs {
  float* out = nullptr;
  size_t out_stride = 0;
  size_t out_side = 0;
  const float* in = nullptr;
  size_t in_stride = 0;
  size_t in_side = 0;
  size_t channels = 0;
};

// f32 maps [B, in_side², in_stride >= channels] → rows [B · out_side², out_stride]: the mean over input pixels
// floor(i·side/out_side) .. ceil((i+1)·side/out_side) (reference: F.interpolate(mode='area') = adaptive_avg_pool2d).
// out_side <= in_side; with equal sides it is a copy that changes stride and format.
struct AreaDownArgs {
  void* out = nullptr;
  DType out_dtype = DType::kF32;
  size_t out_stride = 0;
  size_t out_side = 0;
  const float* in = nullptr;
  size_t in_stride = 0;  // of a pixel
  size_t in_side = 0;
  size_t channels = 0;
  size_t num_images = 1;
};

}  // namespace nextscale
