// The latent's operations, f32 throughout: code look-up with bicubic upsampling, residual convolution, area averaging.
// One thread per output number.
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

NS_DEVICE uint64_t GlobalIndex(const Thread& thread) {
  return uint64_t{thread.block_x()} * static_cast<uint32_t>(thread.num_threads()) +
         static_cast<uint32_t>(thread.index());
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

NS_DEVICE void GatherBicubic(const Thread& thread, const GatherBicubicCall& args) {
  const uint64_t index = GlobalIndex(thread);
  const uint32_t pixels = args.out_side * args.out_side;
  if (index >= uint64_t{args.num_images} * pixels * args.channels) return;
  const uint32_t c = static_cast<uint32_t>(index % args.channels);
  const uint64_t pixel = index / args.channels;
  const int32_t* const tokens = args.tokens + pixel / pixels * args.in_side * args.in_side;
  const uint32_t y = static_cast<uint32_t>(pixel % pixels) / args.out_side;
  const uint32_t x = static_cast<uint32_t>(pixel % pixels) % args.out_side;
  const auto code = [&](uint32_t row, uint32_t column) {
    const int32_t token = tokens[row * args.in_side + column];
    return args.codebook[static_cast<uint64_t>(token < 0 ? 0 : token) * args.channels + c];
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

NS_DEVICE void ResidualConv(const Thread& thread, const ResidualConvCall& args) {
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
  args.f_hat[index] += args.sign * h;
}

NS_DEVICE void AreaDown(const Thread& thread, const AreaDownCall& args) {
  const uint64_t index = GlobalIndex(thread);
  const uint32_t pixels = args.out_side * args.out_side;
  if (index >= uint64_t{args.num_images} * pixels * args.out_stride) return;
  const uint32_t c = static_cast<uint32_t>(index % args.out_stride);
  const uint64_t pixel = index / args.out_stride;
  if (c >= args.channels) return Store(args.out_dtype, args.out, index, 0.0f);
  const uint32_t y = static_cast<uint32_t>(pixel % pixels) / args.out_side;
  const uint32_t x = static_cast<uint32_t>(pixel % pixels) % args.out_side;
  const uint32_t y0 = AreaFirst(y, args.in_side, args.out_side), y1 = AreaLast(y, args.in_side, args.out_side);
  const uint32_t x0 = AreaFirst(x, args.in_side, args.out_side), x1 = AreaLast(x, args.in_side, args.out_side);
  const float* const in = args.in + pixel / pixels * args.in_side * args.in_side * args.in_stride + c;
  float sum = 0.0f;
  for (uint32_t i = y0; i < y1; ++i) {
    for (uint32_t j = x0; j < x1; ++j) sum += in[uint64_t{i * args.in_side + j} * args.in_stride];
  }
  Store(args.out_dtype, args.out, index, sum / static_cast<float>(y1 - y0) / static_cast<float>(x1 - x0));
}

// The nearest code of a row, the first of equals. One warp per row; lane: codes lane, lane + 32, …
NS_DEVICE void NearestCode(const Thread& thread, const NearestCodeCall& args) {
  const uint64_t row = GlobalIndex(thread) / 32;
  if (row >= args.num_rows) return;
  const float* const values = args.rows + row * args.stride;
  float best = FloatFromBits(0x7F800000u);
  uint32_t nearest = 0xFFFFFFFFu;
  for (uint32_t v = static_cast<uint32_t>(thread.lane()); v < args.codebook_size; v += 32) {
    const float* const code = args.codebook + uint64_t{v} * args.dim;
    float sum = 0.0f;
    for (uint32_t e = 0; e < args.dim; ++e) {
      const float difference = Subtract(values[e], code[e]);
      sum = Fma(difference, difference, sum);
    }
    if (sum < best) {
      best = sum;
      nearest = v;
    }
  }
  for (int mask = 16; mask != 0; mask /= 2) {
    const float other = thread.ShuffleXor(best, mask);
    const uint32_t other_code = FloatBits(thread.ShuffleXor(FloatFromBits(nearest), mask));
    if (other < best || (other == best && other_code < nearest)) {
      best = other;
      nearest = other_code;
    }
  }
  if (thread.lane() == 0) args.tokens[row] = nearest < args.codebook_size ? static_cast<int32_t>(nearest) : 0;
}

NS_DEVICE void ImageToMap(const Thread& thread, const ImageToMapCall& args) {
  const uint64_t index = GlobalIndex(thread), pixel = index / args.stride;
  const uint32_t c = static_cast<uint32_t>(index % args.stride);
  if (pixel >= args.num_pixels) return;
  Store(args.dtype, args.map, index, c < args.channels ? args.planar[uint64_t{c} * args.num_pixels + pixel] : 0.0f);
}

NS_DEVICE void MapToImage(const Thread& thread, const MapToImageCall& args) {
  const uint64_t index = GlobalIndex(thread), pixel = index / args.channels;
  const uint32_t c = static_cast<uint32_t>(index % args.channels);
  if (pixel >= args.num_pixels) return;
  const float x = args.map[pixel * args.stride + c];
  const float value = ((x >= 1.0f ? 1.0f : x > -1.0f ? x : -1.0f) + 1.0f) * 0.5f;  // NaN is black
  if (args.planar != nullptr)
    args.planar[uint64_t{c} * args.num_pixels + pixel] = value;
  else
    args.bytes[index] = static_cast<uint8_t>(Multiply(value, 255.0f) + 0.5f);
}

}  // namespace nextscale::cuda::NS_SIDE
