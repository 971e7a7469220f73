#include "native/ops/image.h"

#include <cmath>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::Random;

TEST(ImageTest, ThereAndBack) {
  Random random(4);
  Context context(2);
  const size_t pixels = 700, channels = 5, stride = 16;
  const std::vector<float> planar = random.Floats(pixels * channels);
  std::vector<float> map(pixels * stride), back(planar.size());
  ImageToMap(
      context,
      {.map = map.data(), .stride = stride, .planar = planar.data(), .num_pixels = pixels, .channels = channels});
  EXPECT_EQ(map[3 * stride + 2], planar[2 * pixels + 3]);
  MapToImage(context,
             {.planar = back.data(), .map = map.data(), .stride = stride, .num_pixels = pixels, .channels = channels});
  for (size_t i = 0; i < back.size(); ++i) ASSERT_EQ(back[i], (planar[i] + 1.0f) * 0.5f);
}

TEST(ImageTest, BytesAreClampedAndRounded) {
  Context context(1);
  std::vector<float> map(16 * 2, 9.0f);
  const float values[] = {-7.0f, 7.0f, 0.0f, -1.0f, 1.0f, std::nanf("")};
  const uint8_t expected[] = {0, 255, 128, 0, 255, 0};
  for (size_t i = 0; i < 6; ++i) map[i / 3 * 16 + i % 3] = values[i];
  std::vector<uint8_t> bytes(6);
  MapToImage(context, {.bytes = bytes.data(), .map = map.data(), .stride = 16, .num_pixels = 2, .channels = 3});
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(bytes[i], expected[i]) << i;
}

TEST(ImageTest, RefusesTwoTargetsOrNone) {
  Context context(1);
  std::vector<float> map(16), planar(3);
  std::vector<uint8_t> bytes(3);
  MapToImageArgs args{.map = map.data(), .stride = 16, .num_pixels = 1, .channels = 3};
  EXPECT_THROW(MapToImage(context, args), Error);
  args.planar = planar.data(), args.bytes = bytes.data();
  EXPECT_THROW(MapToImage(context, args), Error);
}

}  // namespace
}  // namespace nextscale
