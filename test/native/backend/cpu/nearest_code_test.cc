#include <limits>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/codes.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

std::vector<int32_t> Nearest(const Codebook& codebook, const std::vector<float>& rows, size_t stride) {
  Context context(2);
  std::vector<int32_t> tokens(rows.size() / stride, -1);
  NearestCode(context, {.tokens = tokens.data(),
                        .rows = rows.data(),
                        .stride = stride,
                        .num_rows = tokens.size(),
                        .codebook = &codebook});
  return tokens;
}

TEST(NearestCodeTest, MatchesNaive) {
  ForEachTarget([] {
    Random random(1);
    for (int repeat = 0; repeat < 20; ++repeat) {
      const size_t size = random.Index(2, 300), dim = random.Index(1, 40), stride = dim + random.Index(0, 5);
      const std::vector<float> codes = random.Floats(size * dim), rows = random.Floats(50 * stride);
      const Codebook codebook = MakeCodebook(codes, size, dim);
      const std::vector<int32_t> tokens = Nearest(codebook, rows, stride);
      for (size_t i = 0; i < tokens.size(); ++i) {
        const auto distance = [&](size_t v) {
          double sum = 0;
          for (size_t e = 0; e < dim; ++e)
            sum += std::pow(static_cast<double>(rows[i * stride + e]) - codes[v * dim + e], 2);
          return sum;
        };
        double smallest = distance(0);
        for (size_t v = 1; v < size; ++v) smallest = std::min(smallest, distance(v));
        ASSERT_GE(tokens[i], 0);
        ASSERT_LT(tokens[i], static_cast<int32_t>(size));
        // The chosen code is a nearest one up to the rounding of a sum of dim + 2 terms.
        ASSERT_LE(distance(static_cast<size_t>(tokens[i])),
                  smallest * (1 + 2 * static_cast<double>(dim + 2) * 0x1p-24));
      }
    }
  });
}

TEST(NearestCodeTest, FirstOfEqualCodes) {
  ForEachTarget([] {
    // Small integers: distances are exact, and every code stands in the book several times.
    Random random(2);
    const size_t size = 259, dim = 2;
    std::vector<float> codes(size * dim), rows(200 * dim);
    for (float& value : codes) value = static_cast<float>(random.Index(0, 3));
    for (float& value : rows) value = static_cast<float>(random.Index(0, 3));
    const std::vector<int32_t> tokens = Nearest(MakeCodebook(codes, size, dim), rows, dim);
    for (size_t i = 0; i < tokens.size(); ++i) {
      size_t first = 0;
      double smallest = 1e9;
      for (size_t v = 0; v < size; ++v) {
        const double distance =
            std::pow(rows[i * 2] - codes[v * 2], 2) + std::pow(rows[i * 2 + 1] - codes[v * 2 + 1], 2);
        if (distance < smallest) smallest = distance, first = v;
      }
      ASSERT_EQ(tokens[i], static_cast<int32_t>(first));
    }
  });
}

TEST(NearestCodeTest, StaysInRangeForNaN) {
  const float bad = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Nearest(MakeCodebook({1, 2, 3}, 3, 1), {bad}, 1), std::vector<int32_t>{0});
}

TEST(NearestCodeTest, RefusesWrongSizes) { EXPECT_THROW(MakeCodebook({1, 2, 3}, 2, 2), Error); }

}  // namespace
}  // namespace nextscale
