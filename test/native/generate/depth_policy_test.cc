#include "native/generate/depth_policy.h"

#include <gtest/gtest.h>

#include <random>

namespace nextscale {
namespace {

// 1 ms per row and block (head included as one block), whatever the scale.
void Teach(DepthPolicy& policy, const ScaleSchedule& schedule, size_t depth) {
  for (size_t k = 0; k < schedule.num_scales(); ++k) {
    const size_t rows = 2 * schedule.tokens[k];
    policy.Record(k, depth, rows, static_cast<double>(rows * (depth + 1)));
  }
}

class DepthPolicyTest : public testing::Test {
 protected:
  DepthPolicyTest() : schedule_({1, 2, 3, 4, 5, 6, 8, 10, 13, 16}), policy_(schedule_, 30) {
    policy_.Calibrate({0, 1});
  }

  DepthPolicy::Question Ask(size_t scale_index, double remaining_ms) const {
    DepthPolicy::Question question;
    question.scale_index = scale_index;
    question.ceilings = ceilings_;
    question.allowed = allowed_;
    question.sequences = 2;
    question.remaining_ms = remaining_ms;
    return question;
  }
  double Rest(size_t scale_index, size_t depth) const {  // milliseconds from this scale to the end
    return static_cast<double>(2 * (schedule_.num_tokens - schedule_.offsets[scale_index]) * (depth + 1));
  }

  const ScaleSchedule schedule_;
  const std::vector<size_t> ceilings_ = std::vector<size_t>(10, 30);
  const std::vector<int32_t> allowed_ = {2, 4, 8, 16, 30};
  DepthPolicy policy_;
};

TEST_F(DepthPolicyTest, MeasuredTimesReachOtherDepths) {
  Teach(policy_, schedule_, 30);
  EXPECT_DOUBLE_EQ(policy_.Predict(9, 30, 512), 512 * 31);
  EXPECT_NEAR(policy_.Predict(9, 8, 512), 512 * 9, 1e-6);
  EXPECT_NEAR(policy_.Predict(9, 8, 1024), 1024 * 9, 1e-6);  // never measured: calibrated line
}

// Three times slower than the line: known from the first scales of the first run, whether they came before the line or
// after it, and right for scales, depths and row counts that were never measured.
TEST_F(DepthPolicyTest, AFirstRunIsCorrectedByTheScalesMeasuredSoFar) {
  for (const bool measured_first : {false, true}) {
    DepthPolicy policy(schedule_, 30);
    if (!measured_first) policy.Calibrate({0, 1});
    EXPECT_DOUBLE_EQ(policy.Predict(9, 8, 512), measured_first ? 0 : 512 * 9);
    for (size_t k = 0; k < 4; ++k) {
      const size_t rows = 2 * schedule_.tokens[k];
      policy.Record(k, 30, rows, 3 * static_cast<double>(rows * 31));
    }
    if (measured_first) policy.Calibrate({0, 1});
    EXPECT_NEAR(policy.Predict(9, 8, 512), 3 * 512 * 9, 1e-6);
    EXPECT_NEAR(policy.Predict(2, 4, 3 * 18), 3 * 3 * 18 * 5, 1e-6);
    // A tiny scale that was disturbed hardly counts.
    policy.Record(0, 30, 2, 1000);
    EXPECT_LT(policy.Predict(9, 8, 512), 1.5 * 3 * 512 * 9);
  }
}

TEST_F(DepthPolicyTest, TheDeepestThatFitsIsChosen) {
  Teach(policy_, schedule_, 30);
  std::mt19937_64 random(5);
  for (int round = 0; round < 1000; ++round) {
    const size_t scale_index = 6 + random() % 4;  // past the early scales
    const double remaining = std::uniform_real_distribution<double>(0, 1.2 * Rest(scale_index, 30))(random);
    const DepthPolicy::Choice choice = policy_.Choose(Ask(scale_index, remaining));
    size_t expected = 0;
    for (int32_t depth : allowed_) {
      if (Rest(scale_index, static_cast<size_t>(depth)) <= remaining) expected = static_cast<size_t>(depth);
    }
    EXPECT_EQ(choice.depth, expected == 0 ? 2 : expected);
    EXPECT_EQ(choice.reason, expected == 0    ? DepthReason::kLate
                             : expected == 30 ? DepthReason::kPlan
                                              : DepthReason::kDeadline);
  }
}

TEST_F(DepthPolicyTest, EarlyScalesStayDeepWhileLaterOnesCanMakeUpForIt) {
  Teach(policy_, schedule_, 30);
  const double shallow_rest = 2.0 * 91 * 31 + Rest(6, 2);  // six scales at full depth, the others at depth 2
  EXPECT_EQ(policy_.Choose(Ask(0, shallow_rest + 1)).depth, 30u);
  EXPECT_EQ(policy_.Choose(Ask(0, shallow_rest - 1)).depth, 16u);
}

TEST_F(DepthPolicyTest, LoadCountsAgainstTheDeadlineAndARiseNeedsAMargin) {
  Teach(policy_, schedule_, 30);
  DepthPolicy::Question question = Ask(7, Rest(7, 8) * 1.01);
  EXPECT_EQ(policy_.Choose(question).depth, 8u);
  question.previous_depth = 4;
  EXPECT_EQ(policy_.Choose(question).depth, 4u);
  question.previous_depth = 8;
  question.load = 2;
  EXPECT_EQ(policy_.Choose(question).depth, 2u);
}

TEST_F(DepthPolicyTest, AveragesFollowNewMeasurementsAndForgetOldRowCounts) {
  for (int i = 0; i < 50; ++i) policy_.Record(3, 8, 32, i < 10 ? 100.0 : 10.0);
  EXPECT_NEAR(policy_.Predict(3, 8, 32), 10.0, 0.1);
  for (size_t rows = 100; rows < 110; ++rows) policy_.Record(3, 8, rows, 1.0);
  EXPECT_LE(policy_.Times().size(), 4u);
}

}  // namespace
}  // namespace nextscale
