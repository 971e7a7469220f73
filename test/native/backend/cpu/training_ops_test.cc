// The training ops beside attention, against plain double arithmetic and its finite differences.
#include "native/base/error.h"
#include "native/ops/cross_entropy.h"
#include "native/ops/gelu_gradient.h"
#include "native/ops/linear_gradient.h"
#include "native/ops/norm_gradient.h"
#include "native/ops/optimizer.h"
#include "test/native/backend/cpu/finite_differences.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::Doubles;
using test::FiniteDifferences;
using test::ForEachTarget;
using test::Random;
using test::RelativeDistance;
using test::Widen;

constexpr float kPoison = -77.0f;

// ---------------------------------------------------------------- linear

TEST(WeightGradient, MatchesDouble) {
  ForEachTarget([] {
    Random random(21);
    for (int trial = 0; trial < 25; ++trial) {
      Context context(random.Index(1, 3));
      const size_t m = random.Index(1, trial < 5 ? 700 : 90), n = random.Index(1, 150), k = random.Index(1, 150);
      const size_t dy_stride = n + random.Index(0, 5), a_stride = k + random.Index(0, 5);
      const std::vector<float> dy = random.Floats(m * dy_stride), a = random.Floats(m * a_stride);
      std::vector<float> dweights(n * k + 1, 0.25f), dbias(n + 1, 0.5f);
      Buffer workspace(WeightGradientWorkspace(m, n, k) * sizeof(float));
      WeightGradient(context, {.dweights = dweights.data(),
                               .dbias = dbias.data(),
                               .dy = dy.data(),
                               .dy_stride = dy_stride,
                               .a = a.data(),
                               .a_stride = a_stride,
                               .num_rows = m,
                               .n = n,
                               .k = k,
                               .workspace = workspace.as<float>()});
      Doubles weights(n * k + 1, 0.25), bias(n + 1, 0.5);
      for (size_t row = 0; row < m; ++row) {
        for (size_t i = 0; i < n; ++i) {
          const double d = static_cast<double>(dy[row * dy_stride + i]);
          bias[i] += d;
          for (size_t j = 0; j < k; ++j) weights[i * k + j] += d * static_cast<double>(a[row * a_stride + j]);
        }
      }
      ASSERT_LT(RelativeDistance(dweights, weights), 2e-6) << m << " " << n << " " << k;
      ASSERT_LT(RelativeDistance(dbias, bias), 2e-6) << m << " " << n;
      EXPECT_EQ(dweights.back(), 0.25f);
      EXPECT_EQ(dbias.back(), 0.5f);
    }
  });
}

TEST(WeightGradient, SameBitsAtAnyThreadCount) {
  ForEachTarget([] {
    Random random(22);
    const size_t m = 601, n = 97, k = 131;
    const std::vector<float> dy = random.Floats(m * n), a = random.Floats(m * k);
    std::vector<float> first;
    for (const size_t threads : {1, 2, 5}) {
      Context context(threads);
      std::vector<float> gradient(n * k + n);
      Buffer workspace(WeightGradientWorkspace(m, n, k) * sizeof(float));
      WeightGradient(context, {.dweights = gradient.data(),
                               .dbias = gradient.data() + n * k,
                               .dy = dy.data(),
                               .dy_stride = n,
                               .a = a.data(),
                               .a_stride = k,
                               .num_rows = m,
                               .n = n,
                               .k = k,
                               .workspace = workspace.as<float>()});
      if (first.empty()) first = gradient;
      EXPECT_EQ(gradient, first) << threads;
    }
  });
}

TEST(Repack, GivesLinearBothOrders) {
  ForEachTarget([] {
    Context context(2);
    Random random(23);
    for (int trial = 0; trial < 10; ++trial) {
      const size_t n = random.Index(1, 130), k = random.Index(1, 130), m = random.Index(1, 20);
      const std::vector<float> weights = random.Floats(n * k), a = random.Floats(m * k), dy = random.Floats(m * n);
      PackedMatrix forward = MakePackedMatrix(n, k), backward = MakePackedMatrix(k, n);
      Repack(context, weights.data(), forward);
      RepackTransposed(context, weights.data(), backward);
      std::vector<float> y(m * n), dx(m * k);
      LinearArgs args;
      args.out = y.data();
      args.out_stride = n;
      args.a = a.data();
      args.a_stride = k;
      args.num_rows = m;
      args.weights = &forward;
      Linear(context, args);
      args.out = dx.data();
      args.out_stride = k;
      args.a = dy.data();
      args.a_stride = n;
      args.weights = &backward;
      Linear(context, args);
      Doubles wanted_y(m * n), wanted_dx(m * k);
      for (size_t row = 0; row < m; ++row) {
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j < k; ++j) {
            const double w = static_cast<double>(weights[i * k + j]);
            wanted_y[row * n + i] += w * static_cast<double>(a[row * k + j]);
            wanted_dx[row * k + j] += w * static_cast<double>(dy[row * n + i]);
          }
        }
      }
      ASSERT_LT(RelativeDistance(y, wanted_y), 2e-6);
      ASSERT_LT(RelativeDistance(dx, wanted_dx), 2e-6);
    }
  });
}

// ---------------------------------------------------------------- norm, modulation, gate

// Two sequences of several spans; rows of x that no span covers.
struct Block {
  explicit Block(Random& random)
      : width(random.Index(1, 40)),
        stride(width + random.Index(0, 3)),
        x_stride(width + random.Index(0, 3)),
        rows(6),
        x_rows(9),
        modulations(random.Floats(2 * 3 * width)) {}
  // Fills in where gradients go.
  std::vector<GradientSpan> Spans(float* dmodulations) const {
    const float* second = modulations.data() + 3 * width;
    float* const dsecond = dmodulations + 3 * width;
    return {{0, 1, 2, modulations.data(), dmodulations},
            {2, 4, 1, modulations.data(), dmodulations},
            {3, 6, 2, second, dsecond},
            {5, 8, 1, second, dsecond}};
  }
  // body(compact row, row of x, modulation)
  template <typename Body>
  void ForEachRow(const Doubles& modulation, const Body& body) const {
    std::vector<float> unused(modulations.size());
    for (const GradientSpan& span : Spans(unused.data())) {
      const size_t offset = static_cast<size_t>(span.modulation - modulations.data());
      for (size_t i = 0; i < span.num_rows; ++i) body(span.compact_row + i, span.x_row + i, &modulation[offset]);
    }
  }
  size_t width, stride, x_stride, rows, x_rows;
  std::vector<float> modulations;  // [2, 3, width]: gate, gain, shift
};

TEST(ModulatedNormGradient, MatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(3);
    Random random(24);
    for (int trial = 0; trial < 8; ++trial) {
      Block block(random);
      if (block.width < 4) continue;  // there the gradient all but cancels
      const size_t width = block.width;
      const std::vector<float> x = random.Floats(block.x_rows * block.x_stride, 2.0f);
      const std::vector<float> dy = random.Floats(block.rows * block.stride);
      std::vector<float> normal(block.rows * block.stride, kPoison), out = normal, inverse(block.rows);
      std::vector<float> dx(x.size(), 0.5f), dmodulations(block.modulations.size(), 0.25f);
      const std::vector<GradientSpan> spans = block.Spans(dmodulations.data());
      NormalizeRows(context, {.normal = normal.data(),
                              .stride = block.stride,
                              .inverse_deviation = inverse.data(),
                              .x = x.data(),
                              .x_stride = block.x_stride,
                              .width = width,
                              .spans = spans});
      Modulate(context, {.out = out.data(),
                         .normal = normal.data(),
                         .stride = block.stride,
                         .width = width,
                         .spans = spans,
                         .gain_offset = width,
                         .shift_offset = 2 * width});
      ModulatedNormGradient(context, {.dx = dx.data(),
                                      .x_stride = block.x_stride,
                                      .dy = dy.data(),
                                      .normal = normal.data(),
                                      .stride = block.stride,
                                      .inverse_deviation = inverse.data(),
                                      .width = width,
                                      .spans = spans,
                                      .gain_offset = width,
                                      .shift_offset = 2 * width});
      Doubles wide_x = Widen(x), modulation = Widen(block.modulations);
      const auto forward = [&] {
        Doubles y(block.rows * block.stride, static_cast<double>(kPoison));
        block.ForEachRow(modulation, [&](size_t row, size_t x_row, const double* vectors) {
          const double* in = &wide_x[x_row * block.x_stride];
          double mean = 0, variance = 0;
          for (size_t c = 0; c < width; ++c) mean += in[c] / static_cast<double>(width);
          for (size_t c = 0; c < width; ++c) variance += (in[c] - mean) * (in[c] - mean) / static_cast<double>(width);
          for (size_t c = 0; c < width; ++c) {
            y[row * block.stride + c] =
                (in[c] - mean) / std::sqrt(variance + 1e-6) * (1 + vectors[width + c]) + vectors[2 * width + c];
          }
        });
        return y;
      };
      EXPECT_LT(RelativeDistance(out, forward()), 1e-5);  // padding, too: it stays
      const auto loss = [&] {
        const Doubles y = forward();
        double sum = 0;
        block.ForEachRow(modulation, [&](size_t row, size_t, const double*) {
          for (size_t c = 0; c < width; ++c)
            sum += y[row * block.stride + c] * static_cast<double>(dy[row * block.stride + c]);
        });
        return sum;
      };
      Doubles wanted = FiniteDifferences(wide_x, loss);
      for (double& value : wanted) value += 0.5;  // it adds; rows of no span stay
      EXPECT_LT(RelativeDistance(dx, wanted), 1e-5) << trial;
      wanted = FiniteDifferences(modulation, loss);
      for (double& value : wanted) value += 0.25;
      EXPECT_LT(RelativeDistance(dmodulations, wanted), 1e-5) << trial;
    }
  });
}

TEST(GatedResidualGradient, MatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(3);
    Random random(25);
    for (int trial = 0; trial < 8; ++trial) {
      Block block(random);
      const size_t width = block.width;
      const std::vector<float> x = random.Floats(block.x_rows * block.x_stride), dx = random.Floats(x.size());
      const std::vector<float> y = random.Floats(block.rows * block.stride);
      std::vector<float> out = x, dy = y, dmodulations(block.modulations.size());
      const std::vector<GradientSpan> spans = block.Spans(dmodulations.data());
      GatedResidual(context, {.x = out.data(),
                              .x_stride = block.x_stride,
                              .y = y.data(),
                              .stride = block.stride,
                              .width = width,
                              .spans = spans,
                              .gate_offset = 0});
      GatedResidualGradient(context, {.dy = dy.data(),  // in y's place
                                      .dx = dx.data(),
                                      .x_stride = block.x_stride,
                                      .y = dy.data(),
                                      .stride = block.stride,
                                      .width = width,
                                      .spans = spans,
                                      .gate_offset = 0});
      Doubles wide_y = Widen(y), modulation = Widen(block.modulations);
      const auto forward = [&] {
        Doubles sum = Widen(x);
        block.ForEachRow(modulation, [&](size_t row, size_t x_row, const double* vectors) {
          for (size_t c = 0; c < width; ++c)
            sum[x_row * block.x_stride + c] += vectors[c] * wide_y[row * block.stride + c];
        });
        return sum;
      };
      EXPECT_LT(RelativeDistance(out, forward()), 1e-6);
      const auto loss = [&] {
        const Doubles sum = forward();
        double total = 0;
        block.ForEachRow(modulation, [&](size_t, size_t x_row, const double*) {
          for (size_t c = 0; c < width; ++c)
            total += sum[x_row * block.x_stride + c] * static_cast<double>(dx[x_row * block.x_stride + c]);
        });
        return total;
      };
      Doubles wanted = FiniteDifferences(wide_y, loss);
      for (size_t i = 0; i < wanted.size(); ++i) {
        if (i % block.stride >= width) wanted[i] = static_cast<double>(y[i]);  // padding stays
      }
      EXPECT_LT(RelativeDistance(dy, wanted), 1e-6) << trial;
      EXPECT_LT(RelativeDistance(dmodulations, FiniteDifferences(modulation, loss)), 1e-5) << trial;
    }
  });
}

// ---------------------------------------------------------------- GELU, cross entropy

double NaiveGelu(double u) { return 0.5 * u * (1 + std::tanh(std::sqrt(2 / M_PI) * (u + 0.044715 * u * u * u))); }

TEST(GeluGradient, MatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(2);
    Random random(26);
    const size_t rows = 5, width = 67, stride = 70;
    std::vector<float> u = random.Floats(rows * stride, 6.0f), dout = random.Floats(u.size());
    u[0] = 0.0f, u[1] = 40.0f, u[2] = -40.0f, u[3] = 1e-20f;
    std::vector<float> out(u.size(), kPoison), again = out, du = out;
    Gelu(context, {.out = out.data(), .u = u.data(), .stride = stride, .num_rows = rows, .width = width});
    GeluGradient(context, {.du = du.data(),
                           .dout = dout.data(),
                           .u = u.data(),
                           .out = again.data(),
                           .stride = stride,
                           .num_rows = rows,
                           .width = width});
    for (size_t i = 0; i < u.size(); ++i) {
      if (i % stride >= width) {
        EXPECT_EQ(out[i], kPoison);
        EXPECT_EQ(du[i], kPoison);
        continue;
      }
      const double x = static_cast<double>(u[i]), step = 1e-5;
      const double slope = (NaiveGelu(x + step) - NaiveGelu(x - step)) / (2 * step) * static_cast<double>(dout[i]);
      EXPECT_NEAR(out[i], NaiveGelu(x), 1e-6 * (1 + std::abs(x))) << x;
      EXPECT_NEAR(again[i], NaiveGelu(x), 1e-6 * (1 + std::abs(x))) << x;
      EXPECT_NEAR(du[i], slope, 2e-6) << x;
    }
  });
}

TEST(CrossEntropy, MatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(3);
    Random random(27);
    for (int trial = 0; trial < 8; ++trial) {
      const size_t rows = random.Index(1, 5), codes = random.Index(2, 70), stride = codes + random.Index(0, 4);
      const float smoothing = trial % 2 == 0 ? 0.0f : 0.1f, factor = 0.5f;
      const std::vector<float> logits = random.Floats(rows * stride, 5.0f);
      std::vector<int32_t> targets;
      for (size_t i = 0; i < rows; ++i) targets.push_back(static_cast<int32_t>(random.Index(0, codes - 1)));
      std::vector<float> values = logits, losses(rows), only_losses(rows);
      CrossEntropyArgs args{.logits = values.data(),
                            .stride = stride,
                            .num_rows = rows,
                            .codebook_size = codes,
                            .targets = targets.data(),
                            .losses = only_losses.data(),
                            .smoothing = smoothing};
      CrossEntropy(context, args);
      EXPECT_EQ(values, logits);  // without a factor nothing is written
      args.losses = losses.data();
      args.gradient_factor = factor;
      CrossEntropy(context, args);
      EXPECT_EQ(losses, only_losses);
      Doubles x = Widen(logits);
      const auto loss = [&](size_t row) {
        double sum = 0, mean = 0;
        for (size_t v = 0; v < codes; ++v) {
          sum += std::exp(x[row * stride + v]);
          mean += x[row * stride + v] / static_cast<double>(codes);
        }
        const double s = static_cast<double>(smoothing), target = x[row * stride + static_cast<size_t>(targets[row])];
        return std::log(sum) - (1 - s) * target - s * mean;
      };
      for (size_t row = 0; row < rows; ++row) EXPECT_NEAR(losses[row], loss(row), 2e-6 * (1 + loss(row)));
      Doubles wanted = FiniteDifferences(x, [&] {
        double sum = 0;
        for (size_t row = 0; row < rows; ++row) sum += static_cast<double>(factor) * loss(row);
        return sum;
      });
      for (size_t i = 0; i < wanted.size(); ++i) {
        if (i % stride >= codes) wanted[i] = static_cast<double>(logits[i]);  // padding stays
      }
      EXPECT_LT(RelativeDistance(values, wanted), 1e-6) << trial;
    }
  });
}

TEST(CrossEntropy, NotFiniteGivesNaN) {
  ForEachTarget([] {
    Context context(1);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      for (const size_t place : {0, 20, 36}) {
        std::vector<float> logits(2 * 37, 1.0f), losses(2);
        logits[place] = bad;
        const std::vector<int32_t> targets = {5, 5};
        CrossEntropy(context, {.logits = logits.data(),
                               .stride = 37,
                               .num_rows = 2,
                               .codebook_size = 37,
                               .targets = targets.data(),
                               .losses = losses.data()});
        EXPECT_TRUE(std::isnan(losses[0])) << bad << " at " << place;
        EXPECT_NEAR(losses[1], std::log(37.0), 1e-5);
      }
    }
  });
}

// ---------------------------------------------------------------- optimizer

TEST(AdamW, MatchesDouble) {
  ForEachTarget([] {
    Context context(3);
    Random random(28);
    const size_t count = 40001;  // several tasks and an odd rest
    std::vector<float> weights = random.Floats(count), mean(count), variance(count), average = weights;
    Doubles w = Widen(weights), m(count), v(count), a = w;
    for (int step = 1; step <= 3; ++step) {
      const std::vector<float> gradient = random.Floats(count, 0.1f);
      AdamWArgs args{.weights = weights.data(),
                     .gradient = gradient.data(),
                     .mean = mean.data(),
                     .variance = variance.data(),
                     .average = average.data(),
                     .count = count};
      args.gradient_factor = 0.5;
      args.learning_rate = 1e-2;
      args.weight_decay = 0.05;
      args.correction1 = 1 - std::pow(args.beta1, step);
      args.correction2 = 1 - std::pow(args.beta2, step);
      args.average_decay = 0.9;
      AdamW(context, args);
      for (size_t i = 0; i < count; ++i) {
        const double g = 0.5 * static_cast<double>(gradient[i]);
        w[i] *= 1 - 1e-2 * 0.05;
        m[i] = args.beta1 * m[i] + (1 - args.beta1) * g;
        v[i] = args.beta2 * v[i] + (1 - args.beta2) * g * g;
        w[i] -= 1e-2 / args.correction1 * m[i] / (std::sqrt(v[i] / args.correction2) + args.epsilon);
        a[i] = 0.9 * a[i] + 0.1 * w[i];
      }
    }
    for (size_t i = 0; i < count; ++i) {
      ASSERT_NEAR(weights[i], w[i], 2e-6) << i;
      ASSERT_NEAR(average[i], a[i], 2e-6) << i;
    }
  });
}

TEST(SquaredNorm, MatchesDoubleAtAnyThreadCount) {
  ForEachTarget([] {
    Random random(29);
    const std::vector<float> values = random.Floats(50003);
    double wanted = 0;
    for (const float value : values) wanted += static_cast<double>(value) * static_cast<double>(value);
    Context one(1), three(3);
    const double found = SquaredNorm(one, values.data(), values.size());
    EXPECT_NEAR(found, wanted, 1e-9 * wanted);
    EXPECT_EQ(SquaredNorm(three, values.data(), values.size()), found);
    const std::vector<float> large(10, 1e30f);  // its square has no f32
    EXPECT_NEAR(SquaredNorm(one, large.data(), large.size()), 1e61, 1e55);
    std::vector<float> bad = values;
    bad[40000] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(SquaredNorm(three, bad.data(), bad.size())));
  });
}

// ---------------------------------------------------------------- refusals

TEST(TrainingOps, RefuseBadArguments) {
  Context context(1);
  std::vector<float> numbers(64);
  const std::vector<int32_t> targets = {3};
  float* const p = numbers.data();
  EXPECT_THROW(WeightGradient(context, {.dweights = p,
                                        .dbias = nullptr,
                                        .dy = p,
                                        .dy_stride = 1,
                                        .a = p,
                                        .a_stride = 2,
                                        .num_rows = 1,
                                        .n = 2,
                                        .k = 2,
                                        .workspace = p}),
               Error);
  EXPECT_THROW(WeightGradient(context, {.dweights = p,
                                        .dbias = nullptr,
                                        .dy = p,
                                        .dy_stride = 2,
                                        .a = p,
                                        .a_stride = 2,
                                        .num_rows = 1,
                                        .n = 2,
                                        .k = 2,
                                        .workspace = nullptr}),
               Error);
  EXPECT_THROW(Gelu(context, {.out = p, .u = p, .stride = 3, .num_rows = 1, .width = 4}), Error);
  EXPECT_THROW(
      CrossEntropy(
          context,
          {.logits = p, .stride = 4, .num_rows = 1, .codebook_size = 3, .targets = targets.data(), .losses = p}),
      Error);
  EXPECT_THROW(CrossEntropy(context, {.logits = p,
                                      .stride = 4,
                                      .num_rows = 1,
                                      .codebook_size = 4,
                                      .targets = targets.data(),
                                      .losses = p,
                                      .smoothing = 1.0f}),
               Error);
  const std::vector<GradientSpan> late = {{1, 0, 1, p, p}}, bare = {{0, 0, 1, p, nullptr}};
  NormalizeRowsArgs norm{
      .normal = p, .stride = 4, .inverse_deviation = p, .x = p, .x_stride = 4, .width = 4, .spans = late};
  EXPECT_THROW(NormalizeRows(context, norm), Error);
  EXPECT_THROW(
      GatedResidualGradient(
          context, {.dy = p, .dx = p, .x_stride = 4, .y = p, .stride = 4, .width = 4, .spans = bare, .gate_offset = 0}),
      Error);
  AdamWArgs adam{.weights = p, .gradient = p, .mean = p, .variance = p, .average = nullptr, .count = 4};
  adam.correction1 = 0;
  EXPECT_THROW(AdamW(context, adam), Error);
}

}  // namespace
}  // namespace nextscale
