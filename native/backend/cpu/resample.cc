// Bicubic upsampling and area downsampling. Latent-sized: plain loops over
// channels, which the compiler vectorises, are enough.

#include "native/ops/resample.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "native/backend/cpu/kernels.h"
#include "native/ops/check.h"
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
  CheckFloat(args.out_dtype, "area: out");
  const size_t in_side = args.in_side, out_side = args.out_side;
  context.pool().ParallelFor(args.num_images * out_side, [&](size_t index, size_t) {
    const size_t y = index % out_side, y0 = y * in_side / out_side, y1 = ((y + 1) * in_side + out_side - 1) / out_side;
    const float* in = args.in + index / out_side * in_side * in_side * args.in_stride;
    float* out = static_cast<float*>(args.out) + index * out_side * args.out_stride;
    for (size_t x = 0; x < out_side; ++x, out += args.out_stride) {
      const size_t x0 = x * in_side / out_side, x1 = ((x + 1) * in_side + out_side - 1) / out_side;
      std::fill_n(out, args.channels, 0.0f);
      for (size_t i = y0; i < y1; ++i) {
        for (size_t j = x0; j < x1; ++j) {
          const float* pixel = in + (i * in_side + j) * args.in_stride;
          for (size_t c = 0; c < args.channels; ++c) out[c] += pixel[c];
        }
      }
      for (size_t c = 0; c < args.channels; ++c) {
        out[c] = out[c] / static_cast<float>(y1 - y0) / static_cast<float>(x1 - x0);
      }
    }
  });
}

}  // namespace nextscale
