// Modulated layer norm, and group norm in three steps (moments of pieces, gains, application).
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

// One warp per row, in two passes over it. Grid: DivideUp(M, kNormWarps).
NS_DEVICE void ModulatedNormRow(const Thread& thread, const ModulatedNormCall& args) {
  const uint32_t row = thread.block_x() * kNormWarps + static_cast<uint32_t>(thread.warp());
  if (row >= args.num_rows) return;
  const SpanTarget target = TargetOf(args.rows, row);
  const float* const x = args.x + uint64_t{RowInX(target, row)} * args.x_stride;
  const uint32_t lane = static_cast<uint32_t>(thread.lane());
  const float inverse_width = 1.0f / static_cast<float>(args.width);
  float sum = 0.0f, squares = 0.0f;
  NS_UNROLL_BY(8)
  for (uint32_t c = lane; c < args.width; c += 32) sum += x[c];
  const float mean = WarpSum(thread, sum) * inverse_width;
  NS_UNROLL_BY(8)
  for (uint32_t c = lane; c < args.width; c += 32) squares += (x[c] - mean) * (x[c] - mean);
  const float factor = InverseRoot(WarpSum(thread, squares) * inverse_width + 1e-6f);
  const float* const gain = target.modulation + args.gain_offset;
  const float* const shift = target.modulation + args.shift_offset;
  NS_UNROLL_BY(4)
  for (uint32_t c = lane; c < args.width; c += 32) {
    Store(args.out_dtype, args.out, uint64_t{row} * args.out_stride + c,
          (x[c] - mean) * factor * (1.0f + gain[c]) + shift[c]);
  }
}

// moments[piece][group]. Grid: pieces; a block's warps share the groups.
NS_DEVICE void GroupMoments(const Thread& thread, const GroupNormCall& args) {
  const uint32_t piece = thread.block_x(), lane = static_cast<uint32_t>(thread.lane());
  const uint32_t width = args.channels / args.num_groups, first = piece * kPiecePixels;
  const uint32_t pixels = args.num_pixels - first < kPiecePixels ? args.num_pixels - first : kPiecePixels;
  const uint64_t base = uint64_t{first} * args.x_stride;
  for (uint32_t group = static_cast<uint32_t>(thread.warp()); group < args.num_groups; group += kGroupNormWarps) {
    const auto sum_of = [&](auto f) {
      float sum = 0.0f;
      for (uint32_t i = lane; i < pixels * width; i += 32) {
        sum += f(Load(args.dtype, args.x, base + uint64_t{i / width} * args.x_stride + group * width + i % width));
      }
      return WarpSum(thread, sum);
    };
    const float mean = sum_of([](float x) { return x; }) / static_cast<float>(pixels * width);
    const float squares = sum_of([mean](float x) { return (x - mean) * (x - mean); });
    if (lane == 0) args.moments[uint64_t{piece} * args.num_groups + group] = {mean, squares};
  }
}

// Pieces are merged in order, in double. One block; threads: groups, then channels.
NS_DEVICE void GroupGains(const Thread& thread, const GroupNormCall& args) {
  const uint32_t num_pieces = DivideUp(args.num_pixels, kPiecePixels), width = args.channels / args.num_groups;
  const uint32_t self = static_cast<uint32_t>(thread.index()), threads = static_cast<uint32_t>(thread.num_threads());
  for (uint32_t group = self; group < args.num_groups; group += threads) {
    double count = 0.0, mean = 0.0, squares = 0.0;
    for (uint32_t piece = 0; piece < num_pieces; ++piece) {
      const Moments m = args.moments[uint64_t{piece} * args.num_groups + group];
      const uint32_t left = args.num_pixels - piece * kPiecePixels;
      const double here = static_cast<double>((left < kPiecePixels ? left : kPiecePixels) * width);
      const double difference = static_cast<double>(m.mean) - mean;
      count += here;
      mean += difference * here / count;
      squares += static_cast<double>(m.squares) + difference * difference * here * (count - here) / count;
    }
    const float factor = static_cast<float>(1.0 / sqrt(squares / count + static_cast<double>(args.eps)));
    for (uint32_t c = group * width; c < (group + 1) * width; ++c) {
      const float gain = args.weight[c] * factor;
      args.gain[c] = gain;
      args.shift[c] = args.bias[c] - static_cast<float>(mean) * gain;
    }
  }
  for (uint32_t c = args.channels + self; c < args.padded_channels; c += threads) args.gain[c] = args.shift[c] = 0.0f;
}

// One thread per number.
NS_DEVICE void NormalizeMap(const Thread& thread, const NormalizeMapCall& args) {
  const uint64_t index =
      uint64_t{thread.block_x()} * static_cast<uint32_t>(thread.num_threads()) + static_cast<uint32_t>(thread.index());
  const uint64_t pixel = index / args.width;
  const uint32_t c = static_cast<uint32_t>(index % args.width);
  if (pixel >= args.num_pixels) return;
  float y = Load(args.dtype, args.x, pixel * args.x_stride + c) * args.gain[c] + args.shift[c];
  if (args.silu) y /= 1.0f + Exp(-y);
  Store(args.dtype, args.out, pixel * args.out_stride + c, y);
}

}  // namespace nextscale::cuda::NS_SIDE
