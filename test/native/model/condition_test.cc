// From descriptions to start tokens and vectors.
#include "native/model/condition.h"

#include <gtest/gtest.h>

#include <cmath>

#include "native/backend/cpu/cpu_backend.h"

namespace nextscale {
namespace {

TEST(Condition, DistinctOnesAndTheirPlaces) {
  std::vector<ConditionSpec> specs = {ConditionSpec::Class(7), ConditionSpec::Class(2), ConditionSpec::Class(7), ConditionSpec::Class(9), ConditionSpec::Class(2)};
  EXPECT_EQ(Distinct(specs), (std::vector<size_t>{1, 0, 1, 2, 0}));
  EXPECT_EQ(specs, (std::vector<ConditionSpec>{ConditionSpec::Class(2), ConditionSpec::Class(7), ConditionSpec::Class(9)}));
}

TEST(Condition, StartsAreRowsOfTheClassEmbeddingAndVectorsTheirSilu) {
  CpuBackend backend(1);
  constexpr size_t kWidth = 3, kClasses = 4;
  TransformerWeights weights;
  weights.class_embedding = backend.Allocate(kClasses * kWidth * sizeof(float), "a test");
  const auto value = [](size_t row, size_t c) { return static_cast<float>(row) - 0.5f * static_cast<float>(c); };
  for (size_t i = 0; i < kClasses * kWidth; ++i) weights.class_embedding.as<float>()[i] = value(i / kWidth, i % kWidth);
  Conditions conditions(backend, kWidth, 2);
  for (const std::vector<ConditionSpec>& specs :
       {std::vector<ConditionSpec>{ConditionSpec::Class(3), ConditionSpec::Class(1)}, std::vector<ConditionSpec>{ConditionSpec::Class(0)}}) {
    conditions.Make(backend, weights, specs);
    ASSERT_EQ(conditions.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      for (size_t c = 0; c < kWidth; ++c) {
        const float x = value(static_cast<size_t>(specs[i].shares[0].label), c);
        EXPECT_EQ(conditions.starts()[i * kWidth + c], x);
        EXPECT_FLOAT_EQ(static_cast<const float*>(conditions.vectors())[i * kWidth + c], x / (1.0f + std::exp(-x)));
      }
    }
  }
}

TEST(Condition, AMixIsTheSumOfItsSharesAndAloneAClassIsItself) {
  CpuBackend backend(1);
  constexpr size_t kWidth = 5, kClasses = 4;
  TransformerWeights weights;
  weights.class_embedding = backend.Allocate(kClasses * kWidth * sizeof(float), "a test");
  const float* const table = weights.class_embedding.as<float>();
  for (size_t i = 0; i < kClasses * kWidth; ++i) {
    weights.class_embedding.as<float>()[i] = std::sin(static_cast<float>(i));
  }
  ConditionSpec mix;
  mix.shares[0] = {.label = 3, .weight = 0.75f};
  mix.shares[1] = {.label = 1, .weight = 0.25f};
  Conditions conditions(backend, kWidth, 2);
  conditions.Make(backend, weights, std::vector<ConditionSpec>{mix, ConditionSpec::Class(2)});
  ASSERT_EQ(conditions.size(), 2u);
  for (size_t c = 0; c < kWidth; ++c) {
    EXPECT_EQ(conditions.starts()[c], 0.75f * table[3 * kWidth + c] + 0.25f * table[kWidth + c]);
    EXPECT_EQ(conditions.starts()[kWidth + c], table[2 * kWidth + c]);  // beside a mix, to the bit
  }
}

}  // namespace
}  // namespace nextscale
