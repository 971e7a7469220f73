#include "native/ops/optimizer.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

// AdamW of one parameter in double precision, written after the paper (algorithm 2).
struct Naive {
  double w, m = 0.0, v = 0.0, average;
  explicit Naive(float start) : w(static_cast<double>(start)), average(w) {}
  void Step(double gradient, const AdamWArgs& args, int step) {
    const double g = args.gradient_factor * gradient;
    m = args.beta1 * m + (1.0 - args.beta1) * g;
    v = args.beta2 * v + (1.0 - args.beta2) * g * g;
    const double m_hat = m / (1.0 - std::pow(args.beta1, step)), v_hat = v / (1.0 - std::pow(args.beta2, step));
    w -= args.learning_rate * (m_hat / (std::sqrt(v_hat) + args.epsilon) + args.weight_decay * w);
    average = args.average_decay * average + (1.0 - args.average_decay) * w;
  }
};

struct State {
  explicit State(size_t count, uint64_t seed) : weights(Random(seed).Floats(count)), mean(count), variance(count) {
    average = weights;
  }
  void Step(Context& context, AdamWArgs args, const std::vector<float>& gradient, int step, bool averaged = true) {
    args.weights = weights.data();
    args.gradient = gradient.data();
    args.mean = mean.data();
    args.variance = variance.data();
    args.average = averaged ? average.data() : nullptr;
    args.count = gradient.size();
    args.correction1 = 1.0 - std::pow(args.beta1, step);
    args.correction2 = 1.0 - std::pow(args.beta2, step);
    AdamW(context, args);
  }
  std::vector<float> weights, mean, variance, average;
};

const AdamWArgs kOptions{.gradient_factor = 0.7,
                         .learning_rate = 1e-2,
                         .beta1 = 0.9,
                         .beta2 = 0.95,
                         .weight_decay = 0.05,
                         .average_decay = 0.9};

TEST(AdamW, MatchesDoubleOverManySteps) {
  ForEachTarget([] {
    Context context(2);
    for (const size_t count : {size_t{1}, size_t{15}, size_t{33}, size_t{16384 + 7}}) {
      State state(count, count);
      std::vector<Naive> naive(state.weights.begin(), state.weights.end());
      for (int step = 1; step <= 20; ++step) {
        const std::vector<float> gradient =
            Random(count + 100 * static_cast<size_t>(step)).Floats(count, step % 3 == 0 ? 1e-4f : 1.0f);
        state.Step(context, kOptions, gradient, step);
        for (size_t i = 0; i < count; ++i) {
          naive[i].Step(static_cast<double>(gradient[i]), kOptions, step);
          ASSERT_NEAR(state.weights[i], naive[i].w, 2e-6) << "step " << step << " at " << i;
          ASSERT_NEAR(state.average[i], naive[i].average, 2e-6);
          ASSERT_NEAR(state.mean[i], naive[i].m, 1e-6);
          ASSERT_NEAR(state.variance[i], naive[i].v, 1e-6 * naive[i].v + 1e-12);
        }
      }
    }
  });
}

// Steps of at most the learning rate, whatever the size of the gradient; epsilon counts where it is small.
TEST(AdamW, FirstStepIsTheLearningRate) {
  ForEachTarget([] {
    Context context(1);
    AdamWArgs options{.learning_rate = 1e-3};
    const std::vector<float> gradient = {1e-3f, -1e3f, 1e10f, 0.0f, 1e-8f};
    State state(gradient.size(), 1);
    const std::vector<float> before = state.weights;
    state.Step(context, options, gradient, 1);
    for (size_t i = 0; i < gradient.size(); ++i) {
      const double g = static_cast<double>(gradient[i]);
      EXPECT_NEAR(static_cast<double>(before[i]) - static_cast<double>(state.weights[i]),
                  1e-3 * g / (std::fabs(g) + 1e-8), 2e-7);
    }
  });
}

TEST(AdamW, DoesNotDependOnThreadsNorTouchWhatIsNotItsOwn) {
  ForEachTarget([] {
    constexpr size_t kCount = 50001;
    const std::vector<float> gradient = Random(3).Floats(kCount - 3);  // the last three are nobody's
    Context one(1);
    State state(kCount, 5);
    const State start = state;
    state.Step(one, kOptions, gradient, 1);
    for (size_t i = kCount - 3; i < kCount; ++i) {
      EXPECT_EQ(state.weights[i], start.weights[i]);
      EXPECT_EQ(state.mean[i], 0.0f);
    }
    for (const size_t threads : {size_t{2}, size_t{3}}) {
      Context context(threads);
      State again = start;
      again.Step(context, kOptions, gradient, 1);
      EXPECT_EQ(again.weights, state.weights);
      EXPECT_EQ(again.mean, state.mean);
      EXPECT_EQ(again.variance, state.variance);
      EXPECT_EQ(again.average, state.average);
      State bare = start;
      bare.Step(context, kOptions, gradient, 1, false);
      EXPECT_EQ(bare.weights, state.weights);
      EXPECT_EQ(bare.average, start.average);
    }
  });
}

TEST(AdamW, RefusesBadArguments) {
  Context context(1);
  std::vector<float> values(8);
  const AdamWArgs good{.weights = values.data(),
                       .gradient = values.data(),
                       .mean = values.data(),
                       .variance = values.data(),
                       .count = 8};
  EXPECT_NO_THROW(AdamW(context, good));
  const auto refused = [&](auto change) {
    AdamWArgs args = good;
    change(args);
    try {
      AdamW(context, args);
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  };
  refused([](AdamWArgs& args) { args.weights = nullptr; });
  refused([](AdamWArgs& args) { args.gradient = nullptr; });
  refused([](AdamWArgs& args) { args.mean = nullptr; });
  refused([](AdamWArgs& args) { args.variance = nullptr; });
  refused([](AdamWArgs& args) { args.correction1 = 0.0; });
  refused([](AdamWArgs& args) { args.correction2 = std::nan(""); });
  EXPECT_THROW(SquaredNorm(context, nullptr, 1), Error);
}

TEST(SquaredNorm, MatchesDoubleForAnyNumberOfThreads) {
  ForEachTarget([] {
    Context one(1), two(2), three(3);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{5}, size_t{4097}, size_t{3000017}}) {
      const std::vector<float> values = Random(count).Floats(count, 1e-3f);
      long double expected = 0.0L;
      for (const float value : values) expected += static_cast<long double>(value) * static_cast<long double>(value);
      const double norm = SquaredNorm(one, values.data(), count);
      EXPECT_NEAR(norm, static_cast<double>(expected), 1e-13 * static_cast<double>(expected));
      EXPECT_EQ(norm, SquaredNorm(two, values.data(), count));
      EXPECT_EQ(norm, SquaredNorm(three, values.data(), count));
    }
  });
}

TEST(SquaredNorm, KeepsNaNInfinityAndLargeValues) {
  ForEachTarget([] {
    Context context(2);
    for (const size_t place : {size_t{0}, size_t{5000}, size_t{9998}}) {
      std::vector<float> values(9999, 1.0f);
      values[place] = std::nanf("");
      EXPECT_TRUE(std::isnan(SquaredNorm(context, values.data(), values.size())));
      values[place] = -std::numeric_limits<float>::infinity();
      EXPECT_TRUE(std::isinf(SquaredNorm(context, values.data(), values.size())));
      values[place] = 1e30f;  // its square is beyond f32
      EXPECT_NEAR(SquaredNorm(context, values.data(), values.size()) / 1e60, 1.0, 1e-6);
    }
  });
}

}  // namespace
}  // namespace nextscale
