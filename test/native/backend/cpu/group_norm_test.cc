#include "native/ops/group_norm.h"

#include <algorithm>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/conv.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

struct Norm {
  std::vector<float> gain, shift;
};

Norm RunNorm(size_t threads, const std::vector<float>& x, size_t stride, size_t pixels, size_t channels, size_t groups,
             const std::vector<float>& weight, const std::vector<float>& bias) {
  Context context(threads);
  Norm norm{std::vector<float>(MapStride(channels)), std::vector<float>(MapStride(channels))};
  std::vector<double> workspace(GroupNormWorkspace(pixels, groups));
  GroupNormArgs args;
  args.gain = norm.gain.data();
  args.shift = norm.shift.data();
  args.x = x.data();
  args.x_stride = stride;
  args.num_pixels = pixels;
  args.channels = channels;
  args.num_groups = groups;
  args.weight = weight.data();
  args.bias = bias.data();
  args.workspace = workspace.data();
  GroupNorm(context, args);
  return norm;
}

// Values with a mean far from zero: a sum of squares without care would lose the variance.
TEST(GroupNormTest, MatchesNaiveMoments) {
  ForEachTarget([] {
    Random random(1);
    for (int repeat = 0; repeat < 20; ++repeat) {
      const size_t groups = random.Index(1, 33), channels = groups * random.Index(1, 6), pixels = random.Index(1, 700);
      const size_t stride = MapStride(channels) + 16 * random.Index(0, 1);
      const float middle = 300.0f * random.Uniform();
      std::vector<float> x = random.Floats(pixels * stride);
      for (float& value : x) value += middle;
      const std::vector<float> weight = random.Floats(channels), bias = random.Floats(channels);
      const Norm norm = RunNorm(2, x, stride, pixels, channels, groups, weight, bias);
      const size_t width = channels / groups;
      for (size_t g = 0; g < groups; ++g) {
        double mean = 0, variance = 0;
        const auto each = [&](const auto& body) {
          for (size_t p = 0; p < pixels; ++p) {
            for (size_t c = g * width; c < (g + 1) * width; ++c) body(static_cast<double>(x[p * stride + c]));
          }
        };
        const double count = static_cast<double>(pixels * width);
        each([&](double value) { mean += value / count; });
        each([&](double value) { variance += (value - mean) * (value - mean) / count; });
        // f32 sums over pieces of 256 pixels: the mean is good to 256 roundings of |mean|, differences to one of
        // |mean|.
        const double mean_error = 64 * 0x1p-24 * (std::abs(mean) + 1);
        for (size_t c = g * width; c < (g + 1) * width; ++c) {
          const double gain = weight[c] / std::sqrt(variance + 1e-6);
          const double tolerance = std::abs(gain) * (2e-5 + 4 * mean_error * mean_error / (variance + 1e-6));
          ASSERT_NEAR(norm.gain[c], gain, tolerance) << "channels " << channels << " pixels " << pixels;
          ASSERT_NEAR(norm.shift[c], bias[c] - mean * gain,
                      std::abs(mean) * tolerance + std::abs(gain) * mean_error + 1e-6);
        }
      }
      for (size_t c = channels; c < MapStride(channels); ++c) ASSERT_EQ(norm.gain[c], 0.0f);
    }
  });
}

TEST(GroupNormTest, BitIdenticalForAnyNumberOfThreads) {
  Random random(2);
  const size_t channels = 96, pixels = 2900;
  const std::vector<float> x = random.Floats(pixels * channels), weight = random.Floats(channels),
                           bias = random.Floats(channels);
  const Norm one = RunNorm(1, x, channels, pixels, channels, 32, weight, bias);
  for (size_t threads : {2, 3, 5}) {
    const Norm more = RunNorm(threads, x, channels, pixels, channels, 32, weight, bias);
    EXPECT_EQ(more.gain, one.gain);
    EXPECT_EQ(more.shift, one.shift);
  }
}

TEST(GroupNormTest, NormalizeMapAppliesGainAndShift) {
  ForEachTarget([] {
    Random random(3);
    const size_t channels = 37, pixels = 600, stride = MapStride(channels);
    const std::vector<float> x = random.Floats(pixels * stride), gain = random.Floats(stride),
                             shift = random.Floats(stride);
    std::vector<float> out(x.size(), 9.0f);
    Context context(2);
    NormalizeMap(context, {.out = out.data(),
                           .out_stride = stride,
                           .x = x.data(),
                           .x_stride = stride,
                           .num_pixels = pixels,
                           .channels = channels,
                           .gain = gain.data(),
                           .shift = shift.data()});
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < channels; ++c) {
        const double expected = static_cast<double>(x[p * stride + c]) * gain[c] + shift[c];
        ASSERT_NEAR(out[p * stride + c], expected, 2 * 0x1p-24 * 2);
      }
    }
  });
}

TEST(GroupNormTest, RefusesChannelsThatDoNotDivide) {
  const std::vector<float> x(48), weight(33), bias(33);
  EXPECT_THROW(RunNorm(1, x, 48, 1, 33, 32, weight, bias), Error);
}

}  // namespace
}  // namespace nextscale
