#include "native/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace nextscale {
namespace {

TEST(Half, EveryF16SurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = FloatFromF16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromF16(F16FromFloat(value))));
    } else {
      EXPECT_EQ(F16FromFloat(value), bits);
    }
  }
}

TEST(Half, EveryBF16SurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = FloatFromBF16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromBF16(BF16FromFloat(value))));
    } else {
      EXPECT_EQ(BF16FromFloat(value), bits);
    }
  }
}

TEST(Half, RoundsToNearestTiesToEven) {
  EXPECT_EQ(F16FromFloat(1.0f + 0x1p-11f), F16FromFloat(1.0f));                        // tie: even is below
  EXPECT_EQ(F16FromFloat(1.0f + 3 * 0x1p-11f), F16FromFloat(1.0f + 0x1p-9f));          // tie: even is above
  EXPECT_EQ(F16FromFloat(std::nextafter(1.0f + 0x1p-11f, 2.0f)), F16FromFloat(1.0f + 0x1p-10f));
  EXPECT_EQ(F16FromFloat(65519.0f), 0x7BFF);
  EXPECT_EQ(F16FromFloat(65520.0f), 0x7C00);
  EXPECT_EQ(F16FromFloat(-1e9f), 0xFC00);
  EXPECT_EQ(F16FromFloat(0x1p-25f), 0);                                                // tie with zero
  EXPECT_EQ(F16FromFloat(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(BF16FromFloat(1.0f + 0x1p-8f), BF16FromFloat(1.0f));
  EXPECT_EQ(BF16FromFloat(std::numeric_limits<float>::max()), 0x7F80);
}

}  // namespace
}  // namespace nextscale
