// 3×3 convolutions in both forms against a naive double-precision reference, on every instruction set of this machine.
#include "native/ops/conv.h"

#include <limits>
#include <string>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr double kEpsilon = 0x1p-24;
constexpr float kCanary = 12345.0f;

struct Case {
  size_t cin, cout, height, width;
  ConvKind kind;
  DType dtype;
  bool normalised, residual;
};

std::string Describe(const Case& c) {
  return Message("cin ", c.cin, " cout ", c.cout, " map ", c.height, "×", c.width, " kind ", static_cast<int>(c.kind),
                 " ", DTypeName(c.dtype), c.normalised ? " normalised" : "", c.residual ? " residual" : "");
}

// A map with noise in its padding columns and a canary after its end.
struct TestMap {
  TestMap(Random& random, size_t pixels, size_t channels)
      : stride(MapStride(channels) + 16 * random.Index(0, 1)),
        size(pixels * stride),
        buffer((size + 16) * sizeof(float)) {
    for (size_t i = 0; i < size; ++i) data()[i] = random.Uniform();
    std::fill_n(data() + size, 16, kCanary);
  }
  float* data() { return buffer.as<float>(); }
  bool intact() {
    return std::all_of(data() + size, data() + size + 16, [](float x) { return x == kCanary; });
  }
  size_t stride, size;
  Buffer buffer;
};

// Everything of one case: inputs, expected sums, and the bound that rounding may reach.
struct Problem {
  Problem(Random& random, const Case& c)
      : problem(c),
        in(random, c.height * c.width, c.cin),
        residual(random, OutHeight() * OutWidth(), c.cout),
        weights(random.Floats(c.cout * c.cin * 9)),
        bias(random.Floats(c.cout)),
        gain(random.Floats(MapStride(c.cin))),
        shift(random.Floats(MapStride(c.cin))) {
    for (float& value : weights) value = test::Round(value, c.dtype);
    bytes = test::Store(weights, c.dtype, true);
    Reference();
  }

  size_t OutHeight() const { return Out(problem.height); }
  size_t OutWidth() const { return Out(problem.width); }
  size_t Out(size_t n) const {
    return problem.kind == ConvKind::kUp ? 2 * n : problem.kind == ConvKind::kDown ? n / 2 : n;
  }

  // The input of the window at an output-side position, and how large its rounding error may be in units of epsilon.
  double Input(ptrdiff_t y, ptrdiff_t x, size_t c, double& magnitude) {
    const ptrdiff_t up = problem.kind == ConvKind::kUp ? 2 : 1;
    magnitude = 0;
    if (y < 0 || x < 0 || y >= up * static_cast<ptrdiff_t>(problem.height) ||
        x >= up * static_cast<ptrdiff_t>(problem.width))
      return 0;
    const float value =
        in.data()[(static_cast<size_t>(y / up) * problem.width + static_cast<size_t>(x / up)) * in.stride + c];
    magnitude = std::abs(value);
    if (!problem.normalised) return value;
    const double normal = static_cast<double>(value) * gain[c] + shift[c];
    magnitude = std::abs(static_cast<double>(value) * gain[c]) + std::abs(shift[c]);
    return normal / (1 + std::exp(-normal));
  }

  void Reference() {
    const size_t step = problem.kind == ConvKind::kDown ? 2 : 1;
    const ptrdiff_t padding = problem.kind == ConvKind::kDown ? 0 : 1;
    for (size_t y = 0; y < OutHeight(); ++y) {
      for (size_t x = 0; x < OutWidth(); ++x) {
        for (size_t o = 0; o < problem.cout; ++o) {
          double sum = bias[o], magnitude = std::abs(bias[o]);
          for (size_t tap = 0; tap < 9; ++tap) {
            for (size_t c = 0; c < problem.cin; ++c) {
              double input_magnitude = 0;
              const double w = weights[(o * problem.cin + c) * 9 + tap];
              sum += w * Input(static_cast<ptrdiff_t>(y * step + tap / 3) - padding,
                               static_cast<ptrdiff_t>(x * step + tap % 3) - padding, c, input_magnitude);
              magnitude += std::abs(w) * input_magnitude;
            }
          }
          if (problem.residual) {
            const double r = residual.data()[(y * OutWidth() + x) * residual.stride + o];
            sum += r;
            magnitude += std::abs(r);
          }
          expected.push_back(sum);
          magnitudes.push_back(magnitude);
        }
      }
    }
  }

  // Returns the output [pixels, cout] and checks canaries.
  std::vector<float> Run(size_t threads, ConvAlgorithm algorithm, bool in_place) {
    Context context(threads);
    TensorView view;
    view.data = bytes.data() + 1;
    view.dtype = problem.dtype;
    view.shape = {problem.cout, problem.cin, 3, 3};
    const PackedConv packed = PackConv(context, view, bias, "weights");
    Random noise(7);
    TestMap out(noise, OutHeight() * OutWidth(), problem.cout);
    ConvArgs args;
    args.out = out.data();
    args.out_stride = out.stride;
    args.in = in.data();
    args.in_stride = in.stride;
    args.in_height = problem.height;
    args.in_width = problem.width;
    args.kind = problem.kind;
    args.weights = &packed;
    args.algorithm = algorithm;
    if (problem.normalised) args.gain = gain.data(), args.shift = shift.data();
    if (problem.residual) args.residual = residual.data(), args.residual_stride = residual.stride;
    if (problem.residual && in_place) {
      for (size_t p = 0; p < OutHeight() * OutWidth(); ++p) {
        std::copy_n(residual.data() + p * residual.stride, problem.cout, out.data() + p * out.stride);
      }
      args.residual = out.data();
      args.residual_stride = out.stride;
    }
    args.workspace_floats = ConvWorkspace(args);
    Buffer workspace((args.workspace_floats + 16) * sizeof(float));
    args.workspace = workspace.as<float>();
    std::fill_n(args.workspace + args.workspace_floats, 16, kCanary);
    Conv(context, args);
    EXPECT_TRUE(out.intact()) << "wrote past the output";
    EXPECT_EQ(args.workspace[args.workspace_floats], kCanary) << "wrote past the workspace";
    std::vector<float> result;
    for (size_t p = 0; p < OutHeight() * OutWidth(); ++p) {
      result.insert(result.end(), out.data() + p * out.stride, out.data() + p * out.stride + problem.cout);
    }
    return result;
  }

  Case problem;
  TestMap in, residual;
  std::vector<float> weights, bias, gain, shift;
  std::vector<std::byte> bytes;
  std::vector<double> expected, magnitudes;
};

// Bounds the error of each output by `factor` · epsilon · Σ|terms|.
void ExpectWithin(const Problem& problem, const std::vector<float>& found, double factor) {
  ASSERT_EQ(found.size(), problem.expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_LE(std::abs(found[i] - problem.expected[i]), factor * kEpsilon * problem.magnitudes[i])
        << "output " << i << " found " << found[i] << " expected " << problem.expected[i];
  }
}

double RelativeRms(const Problem& problem, const std::vector<float>& found) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += (found[i] - problem.expected[i]) * (found[i] - problem.expected[i]);
    norm += problem.magnitudes[i] * problem.magnitudes[i];
  }
  return std::sqrt(error / norm);
}

Case RandomCase(Random& random, bool allow_down) {
  Case c;
  c.cin = random.Index(1, 70);
  c.cout = random.Index(1, 70);
  c.kind = static_cast<ConvKind>(random.Index(0, 2));
  if (!allow_down && c.kind == ConvKind::kDown) c.kind = ConvKind::kSame;
  const size_t smallest = c.kind == ConvKind::kDown ? 2 : 1;
  c.height = random.Index(smallest, 11);
  c.width = random.Index(smallest, 11);
  c.dtype = test::kDTypes[random.Index(0, 2)];
  c.normalised = random.Index(0, 1) == 1;
  c.residual = random.Index(0, 1) == 1;
  return c;
}

// An element is one chain of 9·cin multiply-adds, a bias and a residual: at most 9·cin + 2 roundings of partial sums
// that Σ|terms| bounds. The normalisation adds those of x·gain + shift, exp, and the quotient: 12 covers their sum.
double DirectFactor(const Case& c) { return static_cast<double>(9 * c.cin + 2 + (c.normalised ? 12 : 0)); }

TEST(ConvTest, DirectWithinRoundingOfNaive) {
  ForEachTarget([] {
    Random random(1);
    for (int repeat = 0; repeat < 30; ++repeat) {
      const Case c = RandomCase(random, true);
      SCOPED_TRACE(Describe(c));
      Problem problem(random, c);
      ExpectWithin(problem, problem.Run(2, ConvAlgorithm::kDirect, repeat % 2 == 0), DirectFactor(c));
    }
  });
}

TEST(ConvTest, WinogradWithinRoundingOfNaive) {
  ForEachTarget([] {
    Random random(2);
    for (int repeat = 0; repeat < 30; ++repeat) {
      Case c = RandomCase(random, false);
      if (repeat % 3 == 0) c.cout = random.Index(1, 5);  // fewer channels than tiles: weights are shared, not inputs
      SCOPED_TRACE(Describe(c));
      Problem problem(random, c);
      const std::vector<float> found = problem.Run(2, ConvAlgorithm::kWinograd, repeat % 2 == 0);
      // The transforms' row sums of absolute values give at most 48² times the direct bound for a single element (row 3
      // of Aᵀ with |Bᵀ| and |G| behind it), over terms of the largest size; its rounding is random, so the root mean
      // square is sharp.
      for (size_t i = 0; i < found.size(); ++i) {
        const double largest = static_cast<double>(c.cin) * (c.normalised ? 2 : 1) + 3;
        ASSERT_LE(std::abs(found[i] - problem.expected[i]),
                  48 * 48 * kEpsilon * (static_cast<double>(c.cin) + 24) * largest);
      }
      EXPECT_LE(RelativeRms(problem, found), 16 * kEpsilon);
    }
  });
}

// Maps of several blocks and channels past one staged piece, with more input than scratch would hold at the first block
// size.
TEST(ConvTest, LargerMapsAndManyChannels) {
  Random random(3);
  for (const Case& c : {Case{33, 20, 37, 70, ConvKind::kSame, DType::kF32, true, true},
                        Case{20, 33, 35, 41, ConvKind::kUp, DType::kBF16, false, false},
                        Case{700, 9, 9, 13, ConvKind::kSame, DType::kF32, false, true},
                        Case{600, 40, 4, 5, ConvKind::kSame, DType::kF16, true, false}}) {
    SCOPED_TRACE(Describe(c));
    Problem problem(random, c);
    const std::vector<float> winograd = problem.Run(2, ConvAlgorithm::kWinograd, true);
    EXPECT_LE(RelativeRms(problem, winograd), 16 * kEpsilon);
    ExpectWithin(problem, problem.Run(2, ConvAlgorithm::kDirect, true), DirectFactor(c));
    const std::vector<float> chosen = problem.Run(2, ConvAlgorithm::kAuto, true);
    EXPECT_LE(RelativeRms(problem, chosen), 16 * kEpsilon);
  }
}

TEST(ConvTest, BitIdenticalForAnyNumberOfThreads) {
  ForEachTarget([] {
    Random random(4);
    for (const Case& c : {Case{19, 37, 21, 18, ConvKind::kSame, DType::kF32, true, true},
                          Case{19, 70, 8, 6, ConvKind::kUp, DType::kBF16, false, false}}) {
      Problem problem(random, c);
      for (const ConvAlgorithm algorithm : {ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd}) {
        const std::vector<float> one = problem.Run(1, algorithm, true);
        for (size_t threads : {2, 3, 7})
          EXPECT_EQ(problem.Run(threads, algorithm, false), one) << Describe(c) << " threads " << threads;
      }
    }
  });
}

TEST(ConvTest, RefusesWeightsThatAreNotFinite) {
  Context context(1);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> weights(5 * 3 * 9, 0.5f);
    weights[100] = bad;
    TensorView view;
    view.data = reinterpret_cast<const std::byte*>(weights.data());
    view.shape = {5, 3, 3, 3};
    try {
      PackConv(context, view, std::vector<float>(5), "vae.some.weight");
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFinite);
      EXPECT_NE(std::string(error.what()).find("vae.some.weight"), std::string::npos);
    }
  }
}

TEST(ConvTest, RefusesWrongArguments) {
  Context context(1);
  Random random(5);
  const std::vector<float> weights(2 * 2 * 9);
  TensorView view;
  view.data = reinterpret_cast<const std::byte*>(weights.data());
  view.shape = {2, 2, 3, 3};
  EXPECT_THROW(PackConv(context, view, std::vector<float>(3), "x"), Error);
  const PackedConv packed = PackConv(context, view, std::vector<float>(2), "x");
  TestMap in(random, 16, 2), out(random, 16, 2);
  Buffer workspace(size_t{1} << 20);
  ConvArgs good;
  good.out = out.data();
  good.in = in.data();
  good.out_stride = out.stride;
  good.in_stride = in.stride;
  good.in_height = good.in_width = 4;
  good.weights = &packed;
  good.workspace = workspace.as<float>();
  good.workspace_floats = ConvWorkspace(good);
  Conv(context, good);
  const auto refused = [&](const auto& change) {
    ConvArgs args = good;
    change(args);
    EXPECT_THROW(Conv(context, args), Error);
  };
  refused([](ConvArgs& args) { args.in = nullptr; });
  refused([](ConvArgs& args) { args.out = const_cast<void*>(args.in); });
  refused([](ConvArgs& args) { args.in_stride = 2; });
  refused([](ConvArgs& args) { args.in_height = 0; });
  refused([](ConvArgs& args) { args.workspace_floats -= 1; });
  refused([](ConvArgs& args) { args.gain = static_cast<const float*>(args.in); });
  refused([](ConvArgs& args) { args.kind = ConvKind::kDown, args.algorithm = ConvAlgorithm::kWinograd; });
}

}  // namespace
}  // namespace nextscale
