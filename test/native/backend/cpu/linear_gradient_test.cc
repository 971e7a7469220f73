#include "native/ops/linear_gradient.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr double kHalfUlp = 0x1p-24;
constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

// A layer's rows; the columns between width and stride hold NaN, which must neither be used nor change.
struct Case {
  Case(size_t m, size_t n, size_t k, bool with_bias, uint64_t seed)
      : m(m), n(n), k(k), dy_stride(n + seed % 7), a_stride(k + seed % 5), with_bias(with_bias) {
    Random random(seed);
    dy = random.Floats(m * dy_stride);
    a = random.Floats(m * a_stride);
    for (size_t row = 0; row < m; ++row) {
      for (size_t c = n; c < dy_stride; ++c) dy[row * dy_stride + c] = kPoison;
      for (size_t c = k; c < a_stride; ++c) a[row * a_stride + c] = kPoison;
    }
    // The last rows end where the arrays end.
    dy.resize(dy.size() - (dy_stride - n));
    a.resize(a.size() - (a_stride - k));
    dweights = random.Floats(n * k);
    dbias = random.Floats(n);
  }

  void Run(Context& context, std::vector<float>& to_weights, std::vector<float>& to_bias) const {
    WeightGradient(context, {.dweights = to_weights.data(),
                             .dbias = with_bias ? to_bias.data() : nullptr,
                             .dy = dy.data(),
                             .dy_stride = dy_stride,
                             .a = a.data(),
                             .a_stride = a_stride,
                             .num_rows = m,
                             .n = n,
                             .k = k});
  }

  double Dy(size_t row, size_t c) const { return static_cast<double>(dy[row * dy_stride + c]); }
  double A(size_t row, size_t c) const { return static_cast<double>(a[row * a_stride + c]); }

  void Check(const std::vector<float>& weights, const std::vector<float>& bias) const {
    // A chain of m roundings (twice that without fused multiply-add), and the last sum.
    const double roundings = (2.0 * static_cast<double>(m) + 2.0) * kHalfUlp;
    for (size_t i = 0; i < n; ++i) {
      double sum = static_cast<double>(dbias[i]), size = std::fabs(sum);
      for (size_t row = 0; row < m && with_bias; ++row) sum += Dy(row, i), size += std::fabs(Dy(row, i));
      ASSERT_NEAR(bias[i], sum, roundings * size) << "bias " << i << " m " << m << " n " << n;
      for (size_t j = 0; j < k; ++j) {
        sum = static_cast<double>(dweights[i * k + j]), size = std::fabs(sum);
        for (size_t row = 0; row < m; ++row) {
          sum += Dy(row, i) * A(row, j), size += std::fabs(Dy(row, i) * A(row, j));
        }
        ASSERT_NEAR(weights[i * k + j], sum, roundings * size)
            << "at " << i << ' ' << j << " of m " << m << " n " << n << " k " << k;
      }
    }
  }

  size_t m, n, k, dy_stride, a_stride;
  bool with_bias;
  std::vector<float> dy, a, dweights, dbias;
};

TEST(WeightGradient, MatchesDoubleOnOddShapes) {
  ForEachTarget([] {
    Context context(2);
    Random random(1);
    for (uint64_t trial = 0; trial < 80; ++trial) {
      const size_t m = trial % 4 == 0 ? random.Index(120, 400) : random.Index(1, 40);
      const Case c(m, random.Index(1, 90), random.Index(1, 90), trial % 3 != 0, trial);
      std::vector<float> weights = c.dweights, bias = c.dbias;
      c.Run(context, weights, bias);
      ASSERT_NO_FATAL_FAILURE(c.Check(weights, bias)) << "trial " << trial;
    }
  });
}

TEST(WeightGradient, ManyBlocks) {
  ForEachTarget([] {
    Context context(3);
    for (const auto& [n, k] : {std::pair<size_t, size_t>{517, 3}, {2, 611}, {461, 301}}) {
      const Case c(131, n, k, true, 6);
      std::vector<float> weights = c.dweights, bias = c.dbias;
      c.Run(context, weights, bias);
      ASSERT_NO_FATAL_FAILURE(c.Check(weights, bias));
    }
  });
}

// The loss Σ_r dy[r] · (a[r] Wᵀ + b) is linear in W and b: central differences of it are exact but for rounding.
TEST(WeightGradient, MatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(2);
    const Case c(23, 7, 5, true, 4);
    std::vector<float> weights(c.n * c.k), bias(c.n);
    c.Run(context, weights, bias);
    const auto loss = [&](const std::vector<double>& w, const std::vector<double>& b) {
      double sum = 0.0;
      for (size_t row = 0; row < c.m; ++row) {
        for (size_t i = 0; i < c.n; ++i) {
          double y = b[i];
          for (size_t j = 0; j < c.k; ++j) y += c.A(row, j) * w[i * c.k + j];
          sum += c.Dy(row, i) * y;
        }
      }
      return sum;
    };
    std::vector<double> w(c.dweights.begin(), c.dweights.end()), b(c.dbias.begin(), c.dbias.end());
    const auto slope = [&](double& at) {
      const double middle = at;
      at = middle + 0.5;
      const double above = loss(w, b);
      at = middle - 0.5;
      const double below = loss(w, b);
      at = middle;
      return above - below;
    };
    for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(weights[i], slope(w[i]), 1e-5);
    for (size_t i = 0; i < b.size(); ++i) ASSERT_NEAR(bias[i], slope(b[i]), 1e-5);
  });
}

TEST(WeightGradient, DoesNotDependOnThreads) {
  ForEachTarget([] {
    for (const auto& [m, n, k] : {std::array<size_t, 3>{300, 129, 70}, {261, 41, 513}, {5, 700, 33}}) {
      const Case c(m, n, k, true, 9);
      std::vector<float> weights = c.dweights, bias = c.dbias;
      Context one(1);
      c.Run(one, weights, bias);
      for (const size_t threads : {size_t{2}, size_t{3}, size_t{8}}) {
        Context context(threads);
        std::vector<float> again = c.dweights, bias_again = c.dbias;
        c.Run(context, again, bias_again);
        EXPECT_EQ(std::memcmp(weights.data(), again.data(), again.size() * sizeof(float)), 0) << threads;
        EXPECT_EQ(std::memcmp(bias.data(), bias_again.data(), bias.size() * sizeof(float)), 0) << threads;
      }
    }
  });
}

TEST(WeightGradient, RefusesBadArguments) {
  Context context(1);
  std::vector<float> dweights(64), dy(64), a(64);
  const WeightGradientArgs good{.dweights = dweights.data(),
                                .dy = dy.data(),
                                .dy_stride = 8,
                                .a = a.data(),
                                .a_stride = 8,
                                .num_rows = 8,
                                .n = 8,
                                .k = 8};
  EXPECT_NO_THROW(WeightGradient(context, good));
  const auto refused = [&](auto change) {
    WeightGradientArgs args = good;
    change(args);
    try {
      WeightGradient(context, args);
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  };
  refused([](WeightGradientArgs& args) { args.n = 0; });
  refused([](WeightGradientArgs& args) { args.k = 0; });
  refused([](WeightGradientArgs& args) { args.dy_stride = 7; });
  refused([](WeightGradientArgs& args) { args.a_stride = 7; });
  refused([](WeightGradientArgs& args) { args.dweights = nullptr; });
  refused([](WeightGradientArgs& args) { args.dy = nullptr; });
  refused([](WeightGradientArgs& args) { args.a = nullptr; });
  WeightGradientArgs nothing = good;
  nothing.num_rows = 0, nothing.dy = nothing.a = nullptr;
  EXPECT_NO_THROW(WeightGradient(context, nothing));
}

TEST(Repack, EqualsPackMatrix) {
  ForEachTarget([] {
    Context context(3);
    for (const auto& [n, k] : {std::pair<size_t, size_t>{77, 53}, {1, 130}, {130, 1}, {96, 64}}) {
      std::vector<float> weights = Random(n).Floats(n * k);
      const PackedMatrix expected =
          PackMatrix(context, {reinterpret_cast<const std::byte*>(weights.data()), DType::kF32, {n, k}}, "w");
      PackedMatrix packed = MakePackedMatrix(n, k);
      ASSERT_EQ(packed.data.bytes(), expected.data.bytes());
      std::memset(packed.data.data(), 0xFF, packed.data.bytes());  // the padding, too, is to be written
      Repack(context, weights.data(), packed);
      EXPECT_EQ(std::memcmp(packed.data.data(), expected.data.data(), packed.data.bytes()), 0) << n << ' ' << k;

      std::vector<float> transposed(n * k);
      for (size_t i = 0; i < n * k; ++i) transposed[i % k * n + i / k] = weights[i];
      std::memset(packed.data.data(), 0xFF, packed.data.bytes());
      RepackTransposed(context, transposed.data(), packed);
      EXPECT_EQ(std::memcmp(packed.data.data(), expected.data.data(), packed.data.bytes()), 0) << n << ' ' << k;

      weights[n * k - 1] = std::numeric_limits<float>::infinity();  // training looks at its losses instead
      EXPECT_NO_THROW(Repack(context, weights.data(), packed));
    }
  });
}

TEST(Repack, RefusesBadArguments) {
  Context context(1);
  const std::vector<float> weights(64);
  PackedMatrix packed = MakePackedMatrix(8, 8), empty, wide = MakePackedMatrix(8, 8), small = MakePackedMatrix(8, 8);
  empty.n = empty.k = 8;
  wide.panel += 1;
  small.k = 9;
  for (const auto repack : {&Repack, &RepackTransposed}) {
    EXPECT_NO_THROW(repack(context, weights.data(), packed));
    EXPECT_THROW(repack(context, nullptr, packed), Error);
    EXPECT_THROW(repack(context, weights.data(), empty), Error);
    EXPECT_THROW(repack(context, weights.data(), wide), Error);
    EXPECT_THROW(repack(context, weights.data(), small), Error);
  }
}

}  // namespace
}  // namespace nextscale
