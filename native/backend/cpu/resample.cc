// Bicubic upsampling, area downsampling, and the two orders of a map's numbers. Latent-sized: plain loops over
// channels, which the compiler vectorises, are enough.
#include "native/ops/resample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "native/ops/check_map.h"

namespace nextscale {
namespace {

// The four inputs of one output coordinate and their weights.
struct CubicTaps {
  std::array<size_t, 4> index;
  std::array<float, 4> weight;
};

CubicTaps TapsAt(size_t out_index, size_t in_side, size_t out_side) {
  constexpr float kA = -0.75f;
  const float ratio = static_cast<float>(in_side) / static_cast<float>(out_side);
  const float position = ratio * (static_cast<float>(out_index) + 0.5f) - 0.5f;
  const float whole = std::floor(position), t = position - whole;
  // |d| <= 1: (a+2)d³ − (a+3)d² + 1; 1 < |d| < 2: a(d³ − 5d² + 8d − 4)
  const auto near_weight = [](float d) { return ((kA + 2) * d - (kA + 3)) * d * d + 1; };
  const auto far_weight = [](float d) { return ((kA * d - 5 * kA) * d + 8 * kA) * d - 4 * kA; };
  CubicTaps taps;
  taps.weight = {far_weight(t + 1), near_weight(t), near_weight(1 - t), far_weight(2 - t)};
  for (int i = 0; i < 4; ++i) {
    const int index = static_cast<int>(whole) - 1 + i;
    taps.index[i] = static_cast<size_t>(std::clamp(index, 0, static_cast<int>(in_side) - 1));
  }
  return taps;
}

}  // namespace

void Bicubic(Context& context, const BicubicArgs& args) {
  CheckBicubic(args);
  context.pool().ParallelFor(args.out_side, [&](size_t y, size_t worker) {
    const CubicTaps rows = TapsAt(y, args.in_side, args.out_side);
    float* sum = context.scratch<float>(worker);
    for (size_t x = 0; x < args.out_side; ++x) {
      float* out = args.out + (y * args.out_side + x) * args.out_stride;
      if (args.in_side == args.out_side) {
        std::copy_n(args.in + (y * args.in_side + x) * args.in_stride, args.channels, out);
        continue;
      }
      const CubicTaps columns = TapsAt(x, args.in_side, args.out_side);
      std::fill_n(out, args.channels, 0.0f);
      for (size_t i = 0; i < 4; ++i) {
        // Along the row first, as the reference does.
        std::fill_n(sum, args.channels, 0.0f);
        for (size_t j = 0; j < 4; ++j) {
          const float* in = args.in + (rows.index[i] * args.in_side + columns.index[j]) * args.in_stride;
          for (size_t c = 0; c < args.channels; ++c) sum[c] += columns.weight[j] * in[c];
        }
        for (size_t c = 0; c < args.channels; ++c) out[c] += rows.weight[i] * sum[c];
      }
    }
  });
}

void AreaDown(Context& context, const AreaDownArgs& args) {
  CheckAreaDown(args);
  const size_t in_side = args.in_side, out_side = args.out_side;
  context.pool().ParallelFor(out_side, [&](size_t y, size_t) {
    const size_t y0 = y * in_side / out_side, y1 = ((y + 1) * in_side + out_side - 1) / out_side;
    for (size_t x = 0; x < out_side; ++x) {
      const size_t x0 = x * in_side / out_side, x1 = ((x + 1) * in_side + out_side - 1) / out_side;
      for (size_t c = 0; c < args.channels; ++c) {
        const float* plane = args.in + c * in_side * in_side;
        float sum = 0;
        for (size_t i = y0; i < y1; ++i) {
          for (size_t j = x0; j < x1; ++j) sum += plane[i * in_side + j];
        }
        args.out[(y * out_side + x) * args.out_stride + c] =
            sum / static_cast<float>(y1 - y0) / static_cast<float>(x1 - x0);
      }
    }
  });
}

void PlanarToMap(Context& context, float* map, size_t map_stride, const float* planar, size_t num_pixels,
                 size_t channels) {
  constexpr size_t kPixels = 256;
  context.pool().ParallelFor((num_pixels + kPixels - 1) / kPixels, [&](size_t part, size_t) {
    const size_t end = std::min(num_pixels, (part + 1) * kPixels);
    for (size_t p = part * kPixels; p < end; ++p) {
      for (size_t c = 0; c < channels; ++c) map[p * map_stride + c] = planar[c * num_pixels + p];
    }
  });
}

void MapToPlanar(Context& context, float* planar, const float* map, size_t map_stride, size_t num_pixels,
                 size_t channels) {
  constexpr size_t kPixels = 256;
  context.pool().ParallelFor((num_pixels + kPixels - 1) / kPixels, [&](size_t part, size_t) {
    const size_t end = std::min(num_pixels, (part + 1) * kPixels);
    for (size_t c = 0; c < channels; ++c) {
      for (size_t p = part * kPixels; p < end; ++p) planar[c * num_pixels + p] = map[p * map_stride + c];
    }
  });
}

}  // namespace nextscale
