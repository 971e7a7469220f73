// Group normalisation of a map, in two halves: statistics become one gain and one shift per channel, and whoever reads
// the map applies them (convolutions do it while they gather their input; NormalizeMap does it on its own).
#pragma once

#include <cstddef>

#include "native/tensor/dtype.h"

namespace nextscale {

// gain[c] = weight[c] / √(var + eps), shift[c] = bias[c] − mean · gain[c]; mean and biased variance over all pixels of
// the channel's group (reference: torch.nn.GroupNorm, eps 1e-6). Sums are formed over fixed pieces of the map and
// merged in order in double precision: the result does not depend on the number of threads.
struct GroupNormArgs {
  float* gain = nullptr;      // [MapStride(channels)]; padding is set to 0
  float* shift = nullptr;     // [MapStride(channels)]
  const void* x = nullptr;    // map [num_pixels, x_stride]
  DType dtype = DType::kF32;  // of x
  size_t x_stride = 0;
  size_t num_pixels = 0;
  size_t channels = 0;
  size_t num_groups = 32;         // divides channels
  const float* weight = nullptr;  // [channels]
  const float* bias = nullptr;    // [channels]
  double eps = 1e-6;
  double* workspace = nullptr;  // [Backend::GroupNormWorkspace(num_pixels, num_groups)]
};

// out[p, c] = x[p, c] · gain[c] + shift[c]. out may be x.
struct NormalizeMapArgs {
  void* out = nullptr;
  DType dtype = DType::kF32;  // of out and x
  size_t out_stride = 0;
  const void* x = nullptr;
  size_t x_stride = 0;
  size_t num_pixels = 0;
  size_t channels = 0;
  const float* gain = nullptr;   // [MapStride(channels)]
  const float* shift = nullptr;  // [MapStride(channels)]
};

}  // namespace nextscale
