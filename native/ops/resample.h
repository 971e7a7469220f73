// Changing the side of square maps, and the order of their numbers.
#pragma once

#include <cstddef>

#include "native/ops/context.h"

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
void Bicubic(Context& context, const BicubicArgs& args);

// planar [channels, side, side] → rows [out_side², out_stride]: the mean over input pixels floor(i·side/out_side) ..
// ceil((i+1)·side/out_side) (reference: F.interpolate(mode='area') = adaptive_avg_pool2d). out_side <= side.
struct AreaDownArgs {
  float* out = nullptr;
  size_t out_stride = 0;
  size_t out_side = 0;
  const float* in = nullptr;
  size_t in_side = 0;
  size_t channels = 0;
};
void AreaDown(Context& context, const AreaDownArgs& args);

// map[p, c] = planar[c, p]
void PlanarToMap(Context& context, float* map, size_t map_stride, const float* planar, size_t num_pixels,
                 size_t channels);
// planar[c, p] = map[p, c]
void MapToPlanar(Context& context, float* planar, const float* map, size_t map_stride, size_t num_pixels,
                 size_t channels);

}  // namespace nextscale
