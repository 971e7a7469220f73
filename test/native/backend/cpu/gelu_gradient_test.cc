#include "native/ops/gelu_gradient.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/linear.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr float kPoison = -77.0f;

double NaiveGelu(double u) { return 0.5 * u * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (u + 0.044715 * u * u * u))); }

// Central differences of the naive form. The step leaves an error of about 1e-9.
double NaiveSlope(double u) {
  constexpr double kStep = 1e-4;
  return (NaiveGelu(u + kStep) - NaiveGelu(u - kStep)) / (2.0 * kStep);
}

// u (from −12 to 12) and dout, with padding between the rows.
struct Case {
  Case(size_t m, size_t width, size_t stride, uint64_t seed) : m(m), width(width), stride(stride) {
    Random random(seed);
    u = random.Floats(m * stride, seed % 2 == 0 ? 3.0f : 12.0f);
    dout = random.Floats(m * stride, 2.0f);
    for (size_t i = 0; i < m * stride; ++i) {
      if (i % stride >= width) u[i] = dout[i] = kPoison;
    }
  }
  size_t m, width, stride;
  std::vector<float> u, dout;
};

// gelu(u), by the linear layer that changes nothing; what it keeps is u.
void Gelu(Context& context, const Case& c, std::vector<float>& out) {
  std::vector<float> identity(c.width * c.width), kept(c.u.size(), kPoison);
  for (size_t i = 0; i < c.width; ++i) identity[i * c.width + i] = 1.0f;
  PackedMatrix weights = MakePackedMatrix(c.width, c.width);
  Repack(context, identity.data(), weights);
  Linear(context, {.out = out.data(),
                   .out_stride = c.stride,
                   .a = c.u.data(),
                   .a_stride = c.stride,
                   .num_rows = c.m,
                   .weights = &weights,
                   .epilogue = Epilogue::kGelu,
                   .kept = kept.data(),
                   .kept_stride = c.stride});
  EXPECT_EQ(kept, c.u);
}

TEST(GeluGradient, MatchesFiniteDifferencesOnOddShapes) {
  ForEachTarget([] {
    Context context(2);
    Random random(2);
    for (uint64_t trial = 0; trial < 40; ++trial) {
      const size_t width = random.Index(1, 300);
      const Case c(random.Index(1, 70), width, width + trial % 5, trial);
      std::vector<float> out(c.u.size(), kPoison), du(c.u.size(), kPoison), fused(c.u.size(), kPoison), only(du);
      Gelu(context, c, out);
      GeluGradient(context, {du.data(), c.dout.data(), c.u.data(), fused.data(), c.stride, c.m, width});
      GeluGradient(context, {only.data(), c.dout.data(), c.u.data(), nullptr, c.stride, c.m, width});
      EXPECT_EQ(std::memcmp(du.data(), only.data(), du.size() * sizeof(float)), 0);
      for (size_t i = 0; i < c.u.size(); ++i) {
        if (i % c.stride >= width) {
          ASSERT_TRUE(out[i] == kPoison && du[i] == kPoison && fused[i] == kPoison) << i;
          continue;
        }
        const double u = static_cast<double>(c.u[i]);
        ASSERT_NEAR(out[i], NaiveGelu(u), 1e-6 * std::max(1.0, std::fabs(u)));
        ASSERT_NEAR(fused[i], NaiveGelu(u), 1e-6 * std::max(1.0, std::fabs(u)));
        ASSERT_NEAR(du[i], static_cast<double>(c.dout[i]) * NaiveSlope(u), 2e-6) << "u " << u;
      }
    }
  });
}

TEST(GeluGradient, InPlaceAndWithAnyNumberOfThreads) {
  ForEachTarget([] {
    const Case c(261, 173, 175, 3);
    Context one(1);
    std::vector<float> out(c.u.size(), kPoison), du(c.u.size(), kPoison);
    GeluGradient(one, {du.data(), c.dout.data(), c.u.data(), out.data(), c.stride, c.m, c.width});
    for (const size_t threads : {size_t{1}, size_t{2}, size_t{3}}) {
      Context context(threads);
      std::vector<float> u = c.u, dout = c.dout;
      GeluGradient(context, {dout.data(), dout.data(), u.data(), u.data(), c.stride, c.m, c.width});
      EXPECT_EQ(std::memcmp(dout.data(), du.data(), du.size() * sizeof(float)), 0) << threads;
      EXPECT_EQ(std::memcmp(u.data(), out.data(), out.size() * sizeof(float)), 0) << threads;
    }
  });
}

TEST(GeluGradient, KeepsItsTailsAndNaN) {
  ForEachTarget([] {
    Context context(1);
    const std::vector<float> u = {-1e20f, -1e15f, -1e4f, -40.0f, -0.0f, 40.0f, 1e4f, 1e15f, 1e20f, std::nanf("")};
    const std::vector<float> dout(u.size(), 1.0f);
    std::vector<float> du(u.size());
    GeluGradient(context, {du.data(), dout.data(), u.data(), nullptr, u.size(), 1, u.size()});
    for (size_t i = 0; i + 1 < u.size(); ++i) {
      EXPECT_NEAR(du[i], u[i] < 0.0f ? 0.0 : u[i] > 0.0f ? 1.0 : 0.5, 1e-6) << u[i];
    }
    EXPECT_TRUE(std::isnan(du.back()));
  });
}

TEST(GeluGradient, RefusesBadArguments) {
  Context context(1);
  std::vector<float> u(16), out(16), dout(16), du(16);
  const GeluGradientArgs gradient{du.data(), dout.data(), u.data(), nullptr, 8, 2, 8};
  EXPECT_NO_THROW(GeluGradient(context, gradient));
  const auto code_of = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "accepted";
    return ErrorCode::kInternal;
  };
  const auto refused = [&](auto args, const auto& change) {
    change(args);
    EXPECT_EQ(code_of([&] { GeluGradient(context, args); }), ErrorCode::kInvalidArgument);
  };
  refused(gradient, [](GeluGradientArgs& args) { args.stride = 7; });
  refused(gradient, [](GeluGradientArgs& args) { args.u = nullptr; });
  refused(gradient, [](GeluGradientArgs& args) { args.du = nullptr; });
  refused(gradient, [](GeluGradientArgs& args) { args.dout = nullptr; });
}

}  // namespace
}  // namespace nextscale
