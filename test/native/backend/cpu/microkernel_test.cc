#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "test/native/backend/cpu/microkernel_test.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include "native/backend/cpu/microkernel-inl.h"
#include "test/native/backend/cpu/kernel_test.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

// Every tile height: against double; sums cut in two calls; rows beyond `rows` untouched.
template <typename T>
void TestTiles(DType dtype) {
  test::Random random(3);
  for (size_t rows = 1; rows <= kTileRows; ++rows) {
    for (const size_t k : {size_t{1}, size_t{2}, size_t{63}, size_t{128}}) {
      const size_t a_stride = k + rows % 3, stride = kPanel + rows % 2;
      const std::vector<float> a = random.Floats(rows * a_stride), before = random.Floats((rows + 1) * stride);
      std::vector<float> b = random.Floats(k * kPanel);
      for (float& value : b) value = test::Round(value, dtype);
      const std::vector<std::byte> bytes = test::Store(b, dtype);
      const T* panel = reinterpret_cast<const T*>(bytes.data());
      std::vector<float> tile = before, cut = before;
      MultiplyTile(rows, a.data(), a_stride, panel, k, rows % 2 == 0, tile.data(), stride);
      MultiplyTile(rows, a.data(), a_stride, panel, k / 2, rows % 2 == 0, cut.data(), stride);
      MultiplyTile(rows, a.data() + k / 2, a_stride, panel + k / 2 * kPanel, k - k / 2, true, cut.data(), stride);
      ASSERT_EQ(std::memcmp(tile.data(), cut.data(), tile.size() * sizeof(float)), 0) << "rows " << rows << " k " << k;
      for (size_t i = 0; i < tile.size(); ++i) {
        const size_t r = i / stride, j = i % stride;
        if (r == rows || j >= kPanel) {
          ASSERT_EQ(tile[i], before[i]);
          continue;
        }
        double sum = rows % 2 == 0 ? static_cast<double>(before[i]) : 0.0, norm = std::fabs(sum);
        for (size_t p = 0; p < k; ++p) {
          const double product = static_cast<double>(a[r * a_stride + p]) * static_cast<double>(b[p * kPanel + j]);
          sum += product;
          norm += std::fabs(product);
        }
        ASSERT_NEAR(tile[i], sum, 2.0 * static_cast<double>(k + 1) * 0x1p-24 * norm) << "rows " << rows << " k " << k;
      }
    }
  }
}

void TestAllTiles() {
  TestTiles<float>(DType::kF32);
  TestTiles<hwy::float16_t>(DType::kF16);
  TestTiles<hwy::bfloat16_t>(DType::kBF16);
}

void TestEvenTiles() {
  for (size_t rows = 0; rows < 5 * kTileRows; ++rows) {
    const EvenTiles tiles(rows);
    size_t next = 0;
    for (size_t t = 0; t < tiles.count; ++t) {
      ASSERT_EQ(tiles.begin(t), next);
      ASSERT_LE(tiles.size(t), kTileRows);
      ASSERT_GE(tiles.size(t) + 1, tiles.size(0));
      ASSERT_GE(tiles.size(t), rows / tiles.count);
      next += tiles.size(t);
    }
    ASSERT_EQ(next, rows);
  }
}

void TestExp2() {
  const DF df;
  float out[kLanes];
  for (double x = -125.99; x < 127.0; x += 0.00371) {
    hn::StoreU(Exp2(df, hn::Set(df, static_cast<float>(x))), df, out);
    const double expected = std::exp2(static_cast<double>(static_cast<float>(x)));
    ASSERT_NEAR(out[0], expected, 2e-7 * expected) << x;
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {-126.1f, -1e30f, -infinity}) {
    hn::StoreU(Exp2(df, hn::Set(df, x)), df, out);
    ASSERT_EQ(out[0], 0.0f) << x;
  }
  hn::StoreU(Exp2(df, hn::Set(df, std::nanf(""))), df, out);
  ASSERT_TRUE(std::isnan(out[0]));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(TestAllTiles);
HWY_EXPORT(TestEvenTiles);
HWY_EXPORT(TestExp2);

namespace {

TEST(Microkernel, TilesMatchDouble) {
  test::ForEachTarget([] { HWY_DYNAMIC_DISPATCH(TestAllTiles)(); });
}

TEST(Microkernel, EvenTilesCoverAllRows) {
  test::ForEachTarget([] { HWY_DYNAMIC_DISPATCH(TestEvenTiles)(); });
}

TEST(Simd, Exp2) {
  test::ForEachTarget([] { HWY_DYNAMIC_DISPATCH(TestExp2)(); });
}

TEST(Simd, TargetNameIsTheBestOfThisMachine) {
  EXPECT_EQ(SimdTargetName(), hwy::TargetName(hwy::SupportedAndGeneratedTargets().front()));
}

}  // namespace
}  // namespace nextscale
#endif  // HWY_ONCE
