#include "native/ops/norm.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

TEST(ModulatedNorm, MatchesDouble) {
  ForEachTarget([] {
    Context context(3);
    Random random(5);
    for (int trial = 0; trial < 60; ++trial) {
      const size_t m = random.Index(2, 60), width = trial == 0 ? 1 : random.Index(1, 400);
      const size_t x_stride = width + random.Index(0, 3), out_stride = width + random.Index(0, 3);
      std::vector<float> x = random.Floats((m + 1) * x_stride, 3.0f), modulation = random.Floats(4 * width + 3);
      for (float& value : x) value += 1.5f;
      const size_t half = m / 2;
      const std::vector<RowSpan> spans = {{0, m - half + 1, half, modulation.data()},
                                          {half, 0, m - half, modulation.data() + 2}};
      std::vector<float> out(m * out_stride, -77.0f);
      ModulatedNormArgs args;
      args.out = out.data();
      args.out_stride = out_stride;
      args.x = x.data();
      args.x_stride = x_stride;
      args.width = width;
      args.spans = spans;
      args.gain_offset = width;
      args.shift_offset = 2 * width + 1;
      ModulatedNorm(context, args);
      for (size_t row = 0; row < m; ++row) {
        const RowSpan& span = spans[row < half ? 0 : 1];
        const float* in = &x[(span.x_row + row - span.compact_row) * x_stride];
        double mean = 0.0, variance = 0.0;
        for (size_t c = 0; c < width; ++c) mean += static_cast<double>(in[c]) / static_cast<double>(width);
        for (size_t c = 0; c < width; ++c)
          variance += std::pow(static_cast<double>(in[c]) - mean, 2) / static_cast<double>(width);
        const double factor = 1.0 / std::sqrt(variance + 1e-6);
        // The mean is off by at most width · 2^-24 · max|x|, which the factor amplifies.
        const double bound = (static_cast<double>(width) + 8.0) * 0x1p-24 * 4.5 * 2.0 * (factor + 1.0) * 2.0;
        for (size_t c = 0; c < width; ++c) {
          const double expected =
              (static_cast<double>(in[c]) - mean) * factor * (1.0 + static_cast<double>(span.modulation[width + c])) +
              static_cast<double>(span.modulation[2 * width + 1 + c]);
          ASSERT_NEAR(out[row * out_stride + c], expected, bound) << "row " << row << " width " << width;
        }
        for (size_t c = width; c < out_stride; ++c) ASSERT_EQ(out[row * out_stride + c], -77.0f);
      }
    }
  });
}

TEST(ModulatedNorm, RowDoesNotDependOnBatch) {
  ForEachTarget([] {
    Context one(1), three(3);
    Random random(6);
    const size_t m = 41, width = 1027;
    const std::vector<float> x = random.Floats(m * width), modulation = random.Floats(2 * width);
    const std::vector<RowSpan> spans = {{0, 0, m, modulation.data()}};
    std::vector<float> out(m * width), single(width);
    ModulatedNormArgs args{.out = out.data(),
                           .out_stride = width,
                           .x = x.data(),
                           .x_stride = width,
                           .width = width,
                           .spans = spans,
                           .gain_offset = 0,
                           .shift_offset = width};
    ModulatedNorm(three, args);
    for (size_t row = 0; row < m; ++row) {
      const std::vector<RowSpan> alone = {{0, row, 1, modulation.data()}};
      args.out = single.data();
      args.spans = alone;
      ModulatedNorm(one, args);
      ASSERT_EQ(std::memcmp(single.data(), &out[row * width], width * sizeof(float)), 0);
    }
  });
}

TEST(ModulatedNorm, RefusesBadArguments) {
  Context context(1);
  std::vector<float> x(16), out(16), modulation(16);
  const std::vector<RowSpan> spans = {{0, 0, 2, modulation.data()}};
  const ModulatedNormArgs good{.out = out.data(),
                               .out_stride = 8,
                               .x = x.data(),
                               .x_stride = 8,
                               .width = 8,
                               .spans = spans,
                               .gain_offset = 0,
                               .shift_offset = 8};
  EXPECT_NO_THROW(ModulatedNorm(context, good));
  const auto refused = [&](auto change) {
    ModulatedNormArgs args = good;
    change(args);
    EXPECT_THROW(ModulatedNorm(context, args), Error);
  };
  refused([](ModulatedNormArgs& args) { args.width = 0; });
  refused([](ModulatedNormArgs& args) { args.x_stride = 7; });
  refused([](ModulatedNormArgs& args) { args.out = nullptr; });
  const std::vector<RowSpan> late = {{1, 0, 2, modulation.data()}}, bare = {{0, 0, 2, nullptr}};
  refused([&](ModulatedNormArgs& args) { args.spans = late; });
  refused([&](ModulatedNormArgs& args) { args.spans = bare; });
}

}  // namespace
}  // namespace nextscale
