#include "native/ops/resample.h"

#include <algorithm>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/conv.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::Random;

std::vector<float> RunBicubic(const std::vector<float>& in, size_t in_side, size_t out_side, size_t channels) {
  Context context(2);
  const size_t stride = MapStride(channels);
  std::vector<float> out(out_side * out_side * stride);
  Bicubic(context, {.out = out.data(),
                    .out_stride = stride,
                    .out_side = out_side,
                    .in = in.data(),
                    .in_stride = stride,
                    .in_side = in_side,
                    .channels = channels});
  return out;
}

// Keys' kernel with a = −0.75, written as its definition.
double Keys(double d) {
  const double a = -0.75;
  d = std::abs(d);
  if (d <= 1) return (a + 2) * d * d * d - (a + 3) * d * d + 1;
  return d < 2 ? a * (d * d * d - 5 * d * d + 8 * d - 4) : 0.0;
}

TEST(BicubicTest, MatchesNaive) {
  Random random(1);
  for (const auto& [in_side, out_side] :
       {std::pair<size_t, size_t>{1, 16}, {2, 16}, {3, 8}, {5, 16}, {13, 16}, {9, 32}, {7, 7}, {4, 5}}) {
    const size_t channels = random.Index(1, 35), stride = MapStride(channels);
    const std::vector<float> in = random.Floats(in_side * in_side * stride);
    const std::vector<float> out = RunBicubic(in, in_side, out_side, channels);
    const double ratio = static_cast<double>(in_side) / static_cast<double>(out_side);
    const auto clamp = [&](ptrdiff_t i) {
      return static_cast<size_t>(std::clamp<ptrdiff_t>(i, 0, static_cast<ptrdiff_t>(in_side) - 1));
    };
    for (size_t y = 0; y < out_side; ++y) {
      for (size_t x = 0; x < out_side; ++x) {
        const double py = ratio * (static_cast<double>(y) + 0.5) - 0.5,
                     px = ratio * (static_cast<double>(x) + 0.5) - 0.5;
        for (size_t c = 0; c < channels; ++c) {
          double expected = 0;
          for (ptrdiff_t i = -3; i < static_cast<ptrdiff_t>(in_side) + 3; ++i) {
            for (ptrdiff_t j = -3; j < static_cast<ptrdiff_t>(in_side) + 3; ++j) {
              expected += Keys(py - static_cast<double>(i)) * Keys(px - static_cast<double>(j)) *
                          in[(clamp(i) * in_side + clamp(j)) * stride + c];
            }
          }
          // The position is rounded in f32 (about 16 · 2⁻²⁴), the kernel's slope is below 1.5, its weights sum below 3.
          ASSERT_NEAR(out[(y * out_side + x) * stride + c], expected, 1e-5) << in_side << " to " << out_side;
        }
      }
    }
  }
}

TEST(BicubicTest, IdentityWhereSidesAreEqual) {
  Random random(2);
  const std::vector<float> in = random.Floats(6 * 6 * 16);
  const std::vector<float> out = RunBicubic(in, 6, 6, 16);
  EXPECT_EQ(out, in);
}

TEST(AreaDownTest, MatchesNaive) {
  Random random(3);
  Context context(2);
  for (const auto& [in_side, out_side] :
       {std::pair<size_t, size_t>{16, 1}, {16, 5}, {16, 13}, {8, 6}, {16, 16}, {32, 9}}) {
    const size_t channels = random.Index(1, 35), stride = channels + 3, in_stride = channels + random.Index(0, 2);
    const size_t num_images = random.Index(1, 3);
    const std::vector<float> in = random.Floats(num_images * in_side * in_side * in_stride);
    std::vector<float> out(num_images * out_side * out_side * stride, 7.0f);
    AreaDown(context, {.out = out.data(),
                       .out_stride = stride,
                       .out_side = out_side,
                       .in = in.data(),
                       .in_stride = in_stride,
                       .in_side = in_side,
                       .channels = channels,
                       .num_images = num_images});
    for (size_t row = 0; row < num_images * out_side * out_side; ++row) {
      const size_t image = row / out_side / out_side, y = row / out_side % out_side, x = row % out_side;
      for (size_t c = 0; c < channels; ++c) {
        double sum = 0, count = 0;
        for (size_t i = 0; i < in_side; ++i) {
          for (size_t j = 0; j < in_side; ++j) {
            // Pixel i belongs to bin y when it overlaps [y, y + 1) · in_side / out_side.
            const bool inside = i * out_side < (y + 1) * in_side && (i + 1) * out_side > y * in_side &&
                                j * out_side < (x + 1) * in_side && (j + 1) * out_side > x * in_side;
            if (inside) sum += in[((image * in_side + i) * in_side + j) * in_stride + c], count += 1;
          }
        }
        ASSERT_NEAR(out[row * stride + c], sum / count, (count + 2) * 0x1p-24);
      }
      for (size_t c = channels; c < stride; ++c) ASSERT_EQ(out[row * stride + c], 7.0f);
    }
  }
  std::vector<float> in(4), out(9);
  const AreaDownArgs up{
      .out = out.data(), .out_stride = 1, .out_side = 3, .in = in.data(), .in_stride = 1, .in_side = 2, .channels = 1};
  EXPECT_THROW(AreaDown(context, up), Error);
  AreaDownArgs narrow = up;
  narrow.out_side = 2, narrow.channels = 2;
  EXPECT_THROW(AreaDown(context, narrow), Error);
}

}  // namespace
}  // namespace nextscale
