// Statistics of channel groups, and their application.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/group_norm.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check.h"
#include "native/ops/check_map.h"

namespace nextscale {
#ifndef NEXTSCALE_GROUP_NORM_PIECE
#define NEXTSCALE_GROUP_NORM_PIECE
// Pixels of a piece: one piece stays in the second-level cache for its second pass.
inline constexpr size_t kPiecePixels = 256;
// What is kept of one group in one piece: mean and the sum of squared differences from it.
struct Moments {
  double mean, squares;
};
#endif
}  // namespace nextscale

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

// sums[i] = Σ_p f(x[p, c + i]) over kPixels rows, f = identity or (x − mean[i])².
template <bool kSquares>
HWY_INLINE VF SumColumn(DF df, const float* HWY_RESTRICT x, size_t stride, size_t num_pixels, VF mean) {
  VF sum0 = hn::Zero(df), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  const auto add = [&](VF sum, size_t p) HWY_ATTR {
    const VF value = hn::LoadU(df, x + p * stride);
    if constexpr (!kSquares) return hn::Add(sum, value);
    const VF difference = hn::Sub(value, mean);
    return hn::MulAdd(difference, difference, sum);
  };
  size_t p = 0;
  for (; p + 4 <= num_pixels; p += 4) {
    sum0 = add(sum0, p);
    sum1 = add(sum1, p + 1);
    sum2 = add(sum2, p + 2);
    sum3 = add(sum3, p + 3);
  }
  for (; p < num_pixels; ++p) sum0 = add(sum0, p);
  return hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
}

// Moments of every group over one piece of the map.
void PieceMoments(const GroupNormArgs& args, size_t first, size_t num_pixels, Moments* moments, float* means,
                  float* sums) {
  const DF df;
  const size_t width = args.channels / args.num_groups;
  const double count = static_cast<double>(num_pixels * width);
  const float* x = static_cast<const float*>(args.x) + first * args.x_stride;
  const auto sum_groups = [&](auto store) {
    for (size_t g = 0; g < args.num_groups; ++g) {
      double sum = 0;
      for (size_t c = g * width; c < (g + 1) * width; ++c) sum += sums[c];
      store(g, sum);
    }
  };
  for (size_t c = 0; c < args.channels; c += kLanes) {
    hn::StoreU(SumColumn<false>(df, x + c, args.x_stride, num_pixels, hn::Zero(df)), df, sums + c);
  }
  sum_groups([&](size_t g, double sum) {
    moments[g].mean = sum / count;
    std::fill_n(means + g * width, width, static_cast<float>(moments[g].mean));
  });
  for (size_t c = 0; c < args.channels; c += kLanes) {
    hn::StoreU(SumColumn<true>(df, x + c, args.x_stride, num_pixels, hn::LoadU(df, means + c)), df, sums + c);
  }
  sum_groups([&](size_t g, double sum) {
    // `means` was rounded to f32: shift the sum of squares to the true mean.
    const double error = moments[g].mean - static_cast<double>(means[g * width]);
    moments[g].squares = std::max(0.0, sum - count * error * error);
  });
}

void GroupNormOnTarget(Context& context, const GroupNormArgs& args) {
  const size_t num_pieces = (args.num_pixels + kPiecePixels - 1) / kPiecePixels;
  auto* moments = reinterpret_cast<Moments*>(args.workspace);
  const size_t padded = MapStride(args.channels);
  context.pool().ParallelFor(num_pieces, [&](size_t piece, size_t worker) HWY_ATTR {
    const size_t first = piece * kPiecePixels;
    float* means = context.scratch<float>(worker);
    std::fill_n(means, padded, 0.0f);
    PieceMoments(args, first, std::min(kPiecePixels, args.num_pixels - first), moments + piece * args.num_groups, means,
                 means + padded);
  });
}

void NormalizeOnTarget(Context& context, const NormalizeMapArgs& args) {
  context.pool().ParallelFor((args.num_pixels + kPiecePixels - 1) / kPiecePixels, [&](size_t piece, size_t) HWY_ATTR {
    const DF df;
    for (size_t p = piece * kPiecePixels; p < std::min(args.num_pixels, (piece + 1) * kPiecePixels); ++p) {
      for (size_t c = 0; c < args.channels; c += kLanes) {
        const VF x = hn::LoadU(df, static_cast<const float*>(args.x) + p * args.x_stride + c);
        hn::StoreU(hn::MulAdd(x, hn::LoadU(df, args.gain + c), hn::LoadU(df, args.shift + c)), df,
                   static_cast<float*>(args.out) + p * args.out_stride + c);
      }
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(GroupNormOnTarget);
HWY_EXPORT(NormalizeOnTarget);

size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups) {
  return (num_pixels + kPiecePixels - 1) / kPiecePixels * num_groups * (sizeof(Moments) / sizeof(double));
}

void GroupNorm(Context& context, const GroupNormArgs& args) {
  CheckGroupNorm(args);
  CheckFloat(args.dtype, "group norm: x");
  HWY_DYNAMIC_DISPATCH(GroupNormOnTarget)(context, args);
  const auto* moments = reinterpret_cast<const Moments*>(args.workspace);
  const size_t width = args.channels / args.num_groups;
  std::fill(args.gain + args.channels, args.gain + MapStride(args.channels), 0.0f);
  std::fill(args.shift + args.channels, args.shift + MapStride(args.channels), 0.0f);
  for (size_t g = 0; g < args.num_groups; ++g) {
    // Merging in order (Chan, Golub and LeVeque): the same result for any number of threads.
    double count = 0, mean = 0, squares = 0;
    for (size_t first = 0; first < args.num_pixels; first += kPiecePixels) {
      const Moments& piece = moments[first / kPiecePixels * args.num_groups + g];
      const double piece_count = static_cast<double>(std::min(kPiecePixels, args.num_pixels - first) * width);
      const double difference = piece.mean - mean, total = count + piece_count;
      mean += difference * piece_count / total;
      squares += piece.squares + difference * difference * count * piece_count / total;
      count = total;
    }
    const double inverse = 1.0 / std::sqrt(squares / count + args.eps);
    for (size_t c = g * width; c < (g + 1) * width; ++c) {
      const double gain = args.weight[c] * inverse;
      args.gain[c] = static_cast<float>(gain);
      args.shift[c] = static_cast<float>(args.bias[c] - mean * gain);
    }
  }
}

void NormalizeMap(Context& context, const NormalizeMapArgs& args) {
  CheckNormalizeMap(args);
  CheckFloat(args.dtype, "normalize map: x");
  HWY_DYNAMIC_DISPATCH(NormalizeOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
