// From descriptions to start tokens and vectors.
#include "native/model/condition.h"

#include <gtest/gtest.h>

#include <cmath>

#include "native/backend/cpu/cpu_backend.h"

namespace nextscale {
namespace {

TEST(Condition, DistinctOnesAndTheirPlaces) {
  std::vector<ConditionSpec> specs = {{.label = 7}, {.label = 2}, {.label = 7}, {.label = 9}, {.label = 2}};
  EXPECT_EQ(Distinct(specs), (std::vector<size_t>{1, 0, 1, 2, 0}));
  EXPECT_EQ(specs, (std::vector<ConditionSpec>{{.label = 2}, {.label = 7}, {.label = 9}}));
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
       {std::vector<ConditionSpec>{{.label = 3}, {.label = 1}}, std::vector<ConditionSpec>{{.label = 0}}}) {
    conditions.Make(backend, weights, specs);
    ASSERT_EQ(conditions.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      for (size_t c = 0; c < kWidth; ++c) {
        const float x = value(static_cast<size_t>(specs[i].label), c);
        EXPECT_EQ(conditions.starts()[i * kWidth + c], x);
        EXPECT_FLOAT_EQ(static_cast<const float*>(conditions.vectors())[i * kWidth + c], x / (1.0f + std::exp(-x)));
      }
    }
  }
}

}  // namespace
}  // namespace nextscale
