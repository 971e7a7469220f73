// The latent's operations, f32 throughout: code look-up with bicubic upsampling, residual convolution, area averaging.
// One thread per output number.
#pragma once

#include "native/backend/cuda/thread.h"

namespace nextscale::cuda {
inline constexpr int kMapThreads = 256;
}

namespace nextscale::cuda::NS_SIDE {

NS_DEVICE uint64_t GlobalIndex(const Thread& thread) {
  return uint64_t{thread.block_x()} * static_cast<uint32_t>(thread.num_threads()) + static_cast<uint32_t>(thread.index());
}

// The four inputs of one output coordinate and their weights: a = −0.75, half-pixel centres, clamped.
struct CubicTaps {
  uint32_t index[4];
  float weight[4];
};
NS_DEVICE CubicTaps TapsAt(uint32_t out_index, uint32_t in_side, uint32_t out_side) {
  constexpr float kA = -0.75f;
  const float ratio = static_cast<float>(in_side) / static_cast<float>(out_side);
  const float position = Subtract(Multiply(ratio, static_cast<float>(out_index) + 0.5f), 0.5f);
  const float whole = Floor(position), t = position - whole;
  const auto near_weight = [](float d) { return ((kA + 2) * d - (kA + 3)) * d * d + 1; };
  const auto far_weight = [](float d) { return ((kA * d - 5 * kA) * d + 8 * kA) * d - 4 * kA; };
  CubicTaps taps{{}, {far_weight(t + 1), near_weight(t), near_weight(1 - t), far_weight(2 - t)}};
  NS_UNROLL
  for (int i = 0; i < 4; ++i) {
    int index = static_cast<int>(whole) - 1 + i;
    if (index < 0) index = 0;
    if (index > static_cast<int>(in_side) - 1) index = static_cast<int>(in_side) - 1;
    taps.index[i] = static_cast<uint32_t>(index);
  }
  return taps;
}

NS_DEVICE void GatherBicubic(const Thread& thread, const GatherBicubicArgs& args) {
  const uint64_t index = GlobalIndex(thread);
  const uint32_t pixels = args.out_side * args.out_side;
  if (index >= uint64_t{args.num_images} * pixels * args.channels) return;
  const uint32_t c = static_cast<uint32_t>(index % args.channels);
  const uint64_t pixel = index / args.channels;
  const int32_t* const tokens = args.tokens + pixel / pixels * args.in_side * args.in_side;
  const uint32_t y = static_cast<uint32_t>(pixel % pixels) / args.out_side;
  const uint32_t x = static_cast<uint32_t>(pixel % pixels) % args.out_side;
  const auto code = [&](uint32_t row, uint32_t column) {
    return args.codebook[static_cast<uint64_t>(tokens[row * args.in_side + column]) * args.channels + c];
  };
  if (args.in_side == args.out_side) {
    args.out[index] = code(y, x);
    return;
  }
  const CubicTaps rows = TapsAt(y, args.in_side, args.out_side), columns = TapsAt(x, args.in_side, args.out_side);
  float out = 0.0f;
  NS_UNROLL
  for (int i = 0; i < 4; ++i) {
    float sum = 0.0f;
    NS_UNROLL
    for (int j = 0; j < 4; ++j) sum += columns.weight[j] * code(rows.index[i], columns.index[j]);
    out += rows.weight[i] * sum;
  }
  args.out[index] = out;
}

NS_DEVICE void ResidualConv(const Thread& thread, const ResidualConvArgs& args) {
  const uint64_t index = GlobalIndex(thread);
  const uint32_t pixels = args.side * args.side;
  if (index >= uint64_t{args.num_images} * pixels * args.channels) return;
  float h = args.h[index];
  if (args.mix != 0.0f) {
    const uint32_t c = static_cast<uint32_t>(index % args.channels);
    const uint32_t pixel = static_cast<uint32_t>(index / args.channels);
    const ConvInput conv{ConvShape::kSame, args.num_images, args.side, args.side, args.channels, args.side, args.side};
    float sum = 0.0f;
    for (uint32_t tap = 0; tap < 9; ++tap) {
      const uint64_t at = ConvOffset(conv, pixel, tap, 0);
      if (at == kOutside) continue;
      const float* const weights = args.weights + (uint64_t{c} * 9 + tap) * args.channels;
      NS_UNROLL_BY(4)
      for (uint32_t e = 0; e < args.channels; ++e) sum = Fma(args.h[at + e], weights[e], sum);
    }
    h = (1.0f - args.mix) * h + args.mix * (sum + args.bias[c]);
  }
  args.f_hat[index] += h;
}

NS_DEVICE void AreaDown(const Thread& thread, const AreaDownArgs& args) {
  const uint64_t index = GlobalIndex(thread);
  const uint32_t pixels = args.out_side * args.out_side;
  if (index >= uint64_t{args.num_images} * pixels * args.channels) return;
  const uint32_t c = static_cast<uint32_t>(index % args.channels);
  const uint64_t pixel = index / args.channels;
  const uint32_t y = static_cast<uint32_t>(pixel % pixels) / args.out_side;
  const uint32_t x = static_cast<uint32_t>(pixel % pixels) % args.out_side;
  const uint32_t y0 = AreaFirst(y, args.in_side, args.out_side), y1 = AreaLast(y, args.in_side, args.out_side);
  const uint32_t x0 = AreaFirst(x, args.in_side, args.out_side), x1 = AreaLast(x, args.in_side, args.out_side);
  const float* const in = args.in + pixel / pixels * args.in_side * args.in_side * args.channels + c;
  float sum = 0.0f;
  for (uint32_t i = y0; i < y1; ++i) {
    for (uint32_t j = x0; j < x1; ++j) sum += in[uint64_t{i * args.in_side + j} * args.channels];
  }
  Store(args.out_dtype, args.out, pixel * args.out_stride + c,
        sum / static_cast<float>(y1 - y0) / static_cast<float>(x1 - x0));
}

}  // namespace nextscale::cuda::NS_SIDE
