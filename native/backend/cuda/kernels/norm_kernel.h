// Modulated layer norm, and group norm in three steps (moments of pieces, gains, application).
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

// One warp per row, which it holds in registers: every lane has kQuads times four numbers, lane after lane, and asks
// for all of them before it uses one. Needs width, strides and offsets in multiples of 4, 16-byte aligned x, out and
// modulations, and width <= 128 kQuads. Grid: DivideUp(M, kNormWarps).
template <int kQuads>
NS_DEVICE void ModulatedNormRow(const Thread& thread, const ModulatedNormCall& args) {
  const uint32_t row = thread.block_x() * kNormWarps + static_cast<uint32_t>(thread.warp());
  if (row >= args.num_rows) return;
  const SpanTarget target = TargetOf(args.rows, row);
  const float* const x = args.x + uint64_t{RowInX(target, row)} * args.x_stride;
  const uint32_t first = static_cast<uint32_t>(thread.lane()) * 4;
  Float4 values[kQuads];
  NS_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    const uint32_t c = first + static_cast<uint32_t>(i) * 128;
    values[i] = c < args.width ? Load4(x + c) : Float4{{0.0f, 0.0f, 0.0f, 0.0f}};
  }
  const float inverse_width = 1.0f / static_cast<float>(args.width);
  float sum = 0.0f, squares = 0.0f;
  NS_UNROLL
  for (int i = 0; i < kQuads; ++i) sum += (values[i].x[0] + values[i].x[1]) + (values[i].x[2] + values[i].x[3]);
  const float mean = WarpSum(thread, sum) * inverse_width;
  NS_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    const bool inside = first + static_cast<uint32_t>(i) * 128 < args.width;
    NS_UNROLL
    for (float& value : values[i].x) {
      value = inside ? value - mean : 0.0f;
      squares = Fma(value, value, squares);
    }
  }
  const float factor = InverseRoot(WarpSum(thread, squares) * inverse_width + 1e-6f);
  const float* const gain = target.modulation + args.gain_offset;
  const float* const shift = target.modulation + args.shift_offset;
  constexpr int kAtOnce = 4;  // pieces of gain and shift on their way together
  NS_UNROLL
  for (int begin = 0; begin < kQuads; begin += kAtOnce) {
    Float4 gains[kAtOnce], shifts[kAtOnce];
    NS_UNROLL
    for (int i = 0; i < kAtOnce && begin + i < kQuads; ++i) {
      const uint32_t c = first + static_cast<uint32_t>(begin + i) * 128, at = c < args.width ? c : 0;
      gains[i] = Load4(gain + at);
      shifts[i] = Load4(shift + at);
    }
    NS_UNROLL
    for (int i = 0; i < kAtOnce && begin + i < kQuads; ++i) {
      const uint32_t c = first + static_cast<uint32_t>(begin + i) * 128;
      float y[4];
      NS_UNROLL
      for (int e = 0; e < 4; ++e) {
        y[e] = Fma(values[begin + i].x[e] * factor, 1.0f + gains[i].x[e], shifts[i].x[e]);
      }
      if (c < args.width) Store4(args.out_dtype, args.out, uint64_t{row} * args.out_stride + c, y);
    }
  }
}

// Any width and alignment: one warp per row, in three passes over it. Grid: DivideUp(M, kNormWarps).
NS_DEVICE void ModulatedNormPlain(const Thread& thread, const ModulatedNormCall& args) {
  const uint32_t row = thread.block_x() * kNormWarps + static_cast<uint32_t>(thread.warp());
  if (row >= args.num_rows) return;
  const SpanTarget target = TargetOf(args.rows, row);
  const float* const x = args.x + uint64_t{RowInX(target, row)} * args.x_stride;
  const uint32_t lane = static_cast<uint32_t>(thread.lane());
  const float inverse_width = 1.0f / static_cast<float>(args.width);
  float sum = 0.0f, squares = 0.0f;
  for (uint32_t c = lane; c < args.width; c += 32) sum += x[c];
  const float mean = WarpSum(thread, sum) * inverse_width;
  for (uint32_t c = lane; c < args.width; c += 32) squares += (x[c] - mean) * (x[c] - mean);
  const float factor = InverseRoot(WarpSum(thread, squares) * inverse_width + 1e-6f);
  const float* const gain = target.modulation + args.gain_offset;
  const float* const shift = target.modulation + args.shift_offset;
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

// Moments of a set: Chan's merge of two.
struct Statistics {
  float count, mean, squares;
};
NS_DEVICE Statistics Merge(const Statistics& a, const Statistics& b) {
  const float count = a.count + b.count;
  const float share = count > 0.0f ? b.count / count : 0.0f, difference = b.mean - a.mean;
  return {count, Fma(difference, share, a.mean), a.squares + b.squares + difference * difference * share * a.count};
}

// Gains and shifts of the moments. One warp per group: a lane merges pieces lane, lane + 32, … in this order, then the
// lanes merge in a tree, so the result does not depend on anything but the map. Grid: DivideUp(groups,
// kGroupNormWarps); the first block also clears the padding.
NS_DEVICE void GroupGains(const Thread& thread, const GroupNormCall& args) {
  const uint32_t num_pieces = DivideUp(args.num_pixels, kPiecePixels), width = args.channels / args.num_groups;
  const uint32_t self = static_cast<uint32_t>(thread.index()), lane = static_cast<uint32_t>(thread.lane());
  if (thread.block_x() == 0) {
    for (uint32_t c = args.channels + self; c < args.padded_channels; c += 32 * kGroupNormWarps) {
      args.gain[c] = args.shift[c] = 0.0f;
    }
  }
  const uint32_t group = thread.block_x() * kGroupNormWarps + static_cast<uint32_t>(thread.warp());
  if (group >= args.num_groups) return;
  Statistics all{0.0f, 0.0f, 0.0f};
  constexpr uint32_t kAtOnce = 4;  // pieces on their way together
  for (uint32_t first = lane; first < num_pieces; first += 32 * kAtOnce) {
    Moments moments[kAtOnce];
    NS_UNROLL
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      const uint32_t piece = first + 32 * i;
      moments[i] = args.moments[uint64_t{piece < num_pieces ? piece : first} * args.num_groups + group];
    }
    NS_UNROLL
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      const uint32_t piece = first + 32 * i;
      if (piece >= num_pieces) continue;
      const uint32_t left = args.num_pixels - piece * kPiecePixels;
      const float count = static_cast<float>((left < kPiecePixels ? left : kPiecePixels) * width);
      all = Merge(all, {count, moments[i].mean, moments[i].squares});
    }
  }
  for (int mask = 1; mask < 32; mask *= 2) {
    const Statistics other{thread.ShuffleXor(all.count, mask), thread.ShuffleXor(all.mean, mask),
                           thread.ShuffleXor(all.squares, mask)};
    all = (thread.lane() & mask) == 0 ? Merge(all, other) : Merge(other, all);  // the same in both lanes
  }
  const float factor = InverseRoot(all.squares / all.count + args.eps);
  for (uint32_t c = group * width + lane; c < (group + 1) * width; c += 32) {
    const float gain = args.weight[c] * factor;
    args.gain[c] = gain;
    args.shift[c] = args.bias[c] - all.mean * gain;
  }
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
