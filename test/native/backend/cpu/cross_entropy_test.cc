#include "native/ops/cross_entropy.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr float kPoison = -77.0f;

double NaiveLoss(const std::vector<double>& logits, size_t target, double smoothing) {
  double sum = 0.0, loss = 0.0;
  for (const double x : logits) sum += std::exp(x);
  for (size_t v = 0; v < logits.size(); ++v) {
    const double share = smoothing / static_cast<double>(logits.size()) + (v == target ? 1.0 - smoothing : 0.0);
    loss -= share * (logits[v] - std::log(sum));
  }
  return loss;
}

struct Case {
  Case(size_t m, size_t v, uint64_t seed) : m(m), v(v), stride(v + seed % 4) {
    Random random(seed);
    logits = random.Floats(m * stride, 6.0f);
    for (size_t i = 0; i < logits.size(); ++i) {
      if (i % stride >= v) logits[i] = kPoison;
    }
    for (size_t row = 0; row < m; ++row) targets.push_back(static_cast<int32_t>(random.Index(0, v - 1)));
    smoothing = seed % 3 == 0 ? 0.0f : 0.1f * static_cast<float>(seed % 5);
    factor = seed % 4 == 0 ? 0.0f : 0.03f;
  }
  std::vector<float> Run(Context& context, std::vector<float>& to) const {
    std::vector<float> losses(m, kPoison);
    CrossEntropy(context, {to.data(), stride, m, v, targets.data(), losses.data(), smoothing, factor});
    return losses;
  }
  size_t m, v, stride;
  std::vector<float> logits;
  std::vector<int32_t> targets;
  float smoothing = 0.0f, factor = 0.0f;
};

TEST(CrossEntropy, MatchesFiniteDifferencesOnOddShapes) {
  ForEachTarget([] {
    Context context(2);
    Random random(7);
    for (uint64_t trial = 0; trial < 40; ++trial) {
      const Case c(random.Index(1, 9), trial == 1 ? 1 : random.Index(1, 90), trial);
      std::vector<float> out = c.logits;
      const std::vector<float> losses = c.Run(context, out);
      for (size_t row = 0; row < c.m; ++row) {
        const float* const from = &c.logits[row * c.stride];
        std::vector<double> x(from, from + c.v);
        const size_t target = static_cast<size_t>(c.targets[row]);
        const auto smoothing = static_cast<double>(c.smoothing);
        ASSERT_NEAR(losses[row], NaiveLoss(x, target, smoothing), 5e-6);
        for (size_t v = 0; v < c.v; ++v) {
          constexpr double kStep = 1e-4;
          const double middle = x[v];
          x[v] = middle + kStep;
          const double above = NaiveLoss(x, target, smoothing);
          x[v] = middle - kStep;
          const double below = NaiveLoss(x, target, smoothing);
          x[v] = middle;
          const double expected = c.factor == 0.0f ? middle : 0.03 * (above - below) / (2.0 * kStep);
          ASSERT_NEAR(out[row * c.stride + v], expected, c.factor == 0.0f ? 0.0 : 0.03 * 2e-6) << "trial " << trial;
        }
        for (size_t v = c.v; v < c.stride; ++v) ASSERT_EQ(out[row * c.stride + v], kPoison);
      }
    }
  });
}

TEST(CrossEntropy, DoesNotDependOnThreadsOrBatch) {
  ForEachTarget([] {
    const Case c(93, 1027, 7);
    Context one(1);
    std::vector<float> out = c.logits;
    const std::vector<float> losses = c.Run(one, out);
    for (const size_t threads : {size_t{2}, size_t{3}}) {
      Context context(threads);
      std::vector<float> again = c.logits;
      EXPECT_EQ(c.Run(context, again), losses);
      EXPECT_EQ(std::memcmp(again.data(), out.data(), out.size() * sizeof(float)), 0);
    }
  });
}

TEST(CrossEntropy, LargeLogitsAndLongRows) {
  ForEachTarget([] {
    Context context(1);
    constexpr size_t kSize = 4096;
    std::vector<float> logits(kSize, 1e4f);  // e^10000 is beyond any format
    const std::vector<int32_t> target = {17};
    float loss = 0.0f;
    CrossEntropy(context, {logits.data(), kSize, 1, kSize, target.data(), &loss, 0.1f, 1.0f});
    EXPECT_NEAR(loss, std::log(4096.0), 2e-3);  // half an ulp of 10000 is 5e-4
    for (size_t v = 0; v < kSize; ++v) {
      ASSERT_NEAR(logits[v], 1.0 / 4096.0 - 0.1 / 4096.0 - (v == 17 ? 0.9 : 0.0), 1e-7);
    }
    // Far below the largest: no part of the sum, and the loss is the distance.
    logits.assign(kSize, -200.0f);
    logits[3] = 0.0f;
    CrossEntropy(context, {logits.data(), kSize, 1, kSize, target.data(), &loss, 0.0f, 0.0f});
    EXPECT_NEAR(loss, 200.0, 1e-4);
  });
}

TEST(CrossEntropy, NaNAndInfinityGiveNaN) {
  ForEachTarget([] {
    Context context(1);
    for (const float bad :
         {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
      for (const size_t place : {size_t{0}, size_t{20}, size_t{36}}) {
        for (const float smoothing : {0.0f, 0.1f}) {
          std::vector<float> logits = Random(3).Floats(2 * 37);
          logits[37 + place] = bad;
          const std::vector<int32_t> targets = {5, 5};
          std::vector<float> losses(2);
          CrossEntropy(context, {logits.data(), 37, 2, 37, targets.data(), losses.data(), smoothing, 0.5f});
          EXPECT_TRUE(std::isfinite(losses[0]));
          EXPECT_TRUE(std::isnan(losses[1])) << bad << " at " << place;
        }
      }
    }
  });
}

TEST(CrossEntropy, RefusesBadArguments) {
  Context context(1);
  std::vector<float> logits(16), losses(2);
  std::vector<int32_t> targets = {0, 7};
  const CrossEntropyArgs good{logits.data(), 8, 2, 8, targets.data(), losses.data(), 0.0f, 0.0f};
  EXPECT_NO_THROW(CrossEntropy(context, good));
  const auto refused = [&](auto change) {
    CrossEntropyArgs args = good;
    change(args);
    try {
      CrossEntropy(context, args);
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  };
  refused([](CrossEntropyArgs& args) { args.codebook_size = 0; });
  refused([](CrossEntropyArgs& args) { args.codebook_size = 7; });  // the second target is 7
  refused([](CrossEntropyArgs& args) { args.stride = 7; });
  refused([](CrossEntropyArgs& args) { args.logits = nullptr; });
  refused([](CrossEntropyArgs& args) { args.targets = nullptr; });
  refused([](CrossEntropyArgs& args) { args.losses = nullptr; });
  refused([](CrossEntropyArgs& args) { args.smoothing = 1.0f; });
  refused([](CrossEntropyArgs& args) { args.smoothing = std::nanf(""); });
  targets[0] = -1;
  refused([](CrossEntropyArgs&) {});
}

}  // namespace
}  // namespace nextscale
