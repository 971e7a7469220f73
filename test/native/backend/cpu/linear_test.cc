#include "native/ops/linear.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr double kHalfUlp = 0x1p-24;

// One random layer and its inputs; rows of x in another order than the compact rows.
struct Case {
  Case(size_t m, size_t n, size_t k, DType dtype, Epilogue epilogue, bool with_bias, uint64_t seed)
      : m(m), n(n), k(k), a_stride(k + seed % 5), out_stride(n + seed % 3), epilogue(epilogue) {
    Random random(seed);
    a = random.Floats(m * a_stride);
    weights = random.Floats(n * k);
    for (float& weight : weights) weight = test::Round(weight, dtype);
    bytes = test::Store(weights, dtype, true);
    view = {bytes.data() + 1, dtype, {n, k}};
    if (with_bias) bias = random.Floats(n);
    x = random.Floats((m + 3) * out_stride);
    modulation = random.Floats(3 * n + 7);
    if (epilogue == Epilogue::kResidual) {
      // The second half of the compact rows first in x, one row apart; a span of no rows; a span without gate.
      const size_t half = m / 2;
      spans = {{0, m - half + 2, half, modulation.data()},
               {half, 0, 0, modulation.data()},
               {half, 1, m - half, seed % 2 == 0 ? nullptr : modulation.data() + n}};
    }
  }

  void Run(Context& context, const PackedMatrix& packed, std::vector<float>& out) const {
    LinearArgs args;
    args.out = out.data();
    args.out_stride = out_stride;
    args.a = a.data();
    args.a_stride = a_stride;
    args.num_rows = m;
    args.weights = &packed;
    args.bias = bias.empty() ? nullptr : bias.data();
    args.epilogue = epilogue;
    args.spans = spans;
    args.gate_offset = 5;
    Linear(context, args);
  }

  // Checks every float of `out`: results within the bound, the others unchanged.
  void Check(const std::vector<float>& out) const {
    std::vector<double> expected(x.begin(), x.end()), bound(x.size(), 0.0);
    for (size_t row = 0; row < m; ++row) {
      for (size_t column = 0; column < n; ++column) {
        double y = 0.0, norm = 0.0;
        for (size_t i = 0; i < k; ++i) {
          const double product =
              static_cast<double>(a[row * a_stride + i]) * static_cast<double>(weights[column * k + i]);
          y += product;
          norm += std::fabs(product);
        }
        if (!bias.empty()) y += static_cast<double>(bias[column]);
        // k roundings of a chain (twice that without fused multiply-add), the bias, the epilogue.
        double error = (2.0 * static_cast<double>(k) + 2.0) * kHalfUlp * (norm + 1.0);
        size_t at = row * out_stride + column;
        if (epilogue == Epilogue::kGelu) {
          y = 0.5 * y * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (y + 0.044715 * y * y * y)));
          error = 1.13 * error + 1e-6;
        } else if (epilogue == Epilogue::kResidual) {
          const RowSpan& span = row < m / 2 ? spans[0] : spans[2];
          at = (span.x_row + row - span.compact_row) * out_stride + column;
          const double gate = span.modulation == nullptr ? 1.0 : static_cast<double>(span.modulation[5 + column]);
          y = static_cast<double>(x[at]) + gate * y;
          error += 4.0 * kHalfUlp * (std::fabs(y) + 2.0);
        }
        expected[at] = y;
        bound[at] = error;
      }
    }
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_LE(std::fabs(static_cast<double>(out[i]) - expected[i]), bound[i])
          << "at " << i << " of m " << m << " n " << n << " k " << k;
    }
  }

  size_t m, n, k, a_stride, out_stride;
  Epilogue epilogue;
  std::vector<float> a, weights, bias, x, modulation;
  std::vector<std::byte> bytes;
  TensorView view;
  std::vector<RowSpan> spans;
};

TEST(Linear, MatchesDoubleOnOddShapes) {
  ForEachTarget([] {
    Context context(2);
    Random random(1);
    for (uint64_t trial = 0; trial < 120; ++trial) {
      const DType dtype = test::kDTypes[trial % 3];
      const Epilogue epilogue = std::array{Epilogue::kStore, Epilogue::kGelu, Epilogue::kResidual}[trial / 3 % 3];
      const Case c(random.Index(1, 70), random.Index(1, 200), random.Index(1, 300), dtype, epilogue, trial % 4 != 0,
                   trial);
      const PackedMatrix packed = PackMatrix(context, c.view, "w");
      std::vector<float> out = c.x;
      c.Run(context, packed, out);
      ASSERT_NO_FATAL_FAILURE(c.Check(out)) << "trial " << trial;
    }
  });
}

TEST(Linear, ManyPanelsAndBlocks) {
  ForEachTarget([] {
    Context context(3);
    for (const DType dtype : test::kDTypes) {
      const Case c(601, 131, 1030, dtype, Epilogue::kResidual, true, 7);
      std::vector<float> out = c.x;
      c.Run(context, PackMatrix(context, c.view, "w"), out);
      ASSERT_NO_FATAL_FAILURE(c.Check(out));
    }
  });
}

TEST(Linear, RowDoesNotDependOnBatchOrThreads) {
  ForEachTarget([] {
    Context one(1), three(3);
    for (const DType dtype : test::kDTypes) {
      const Case c(93, 75, 257, dtype, Epilogue::kGelu, true, 11);
      const PackedMatrix packed = PackMatrix(one, c.view, "w");
      std::vector<float> out = c.x, threaded = c.x;
      c.Run(one, packed, out);
      c.Run(three, packed, threaded);
      EXPECT_EQ(std::memcmp(out.data(), threaded.data(), out.size() * sizeof(float)), 0);
      for (size_t row = 0; row < c.m; ++row) {
        Case alone = c;
        alone.m = 1;
        alone.a.assign(c.a.begin() + static_cast<ptrdiff_t>(row * c.a_stride),
                       c.a.begin() + static_cast<ptrdiff_t>((row + 1) * c.a_stride));
        std::vector<float> single(c.out_stride);
        alone.Run(three, packed, single);
        ASSERT_EQ(std::memcmp(single.data(), &out[row * c.out_stride], c.n * sizeof(float)), 0) << "row " << row;
      }
    }
  });
}

TEST(Linear, GeluKeepsItsTailsAndNaN) {
  ForEachTarget([] {
    Context context(1);
    const std::vector<float> weights = {1.0f};
    const std::vector<std::byte> bytes = test::Store(weights, DType::kF32);
    const PackedMatrix packed = PackMatrix(context, {bytes.data(), DType::kF32, {1, 1}}, "w");
    std::vector<float> a = {-100.0f, -12.0f, -5.0f, -0.0f, 5.0f, 12.0f, 100.0f, std::nanf("")}, out(a.size());
    LinearArgs args{.out = out.data(),
                    .out_stride = 1,
                    .a = a.data(),
                    .a_stride = 1,
                    .num_rows = a.size(),
                    .weights = &packed,
                    .epilogue = Epilogue::kGelu,
                    .spans = {}};
    Linear(context, args);
    for (size_t i = 0; i + 1 < a.size(); ++i) {
      const double y = static_cast<double>(a[i]);
      EXPECT_NEAR(out[i], 0.5 * y * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (y + 0.044715 * y * y * y))),
                  1e-6 * std::max(1.0, std::fabs(y)));
    }
    EXPECT_TRUE(std::isnan(out.back()));
  });
}

TEST(PackMatrix, KeepsTheBits) {
  ForEachTarget([] {
    Context context(2);
    for (const DType dtype : test::kDTypes) {
      const Case c(1, 77, 53, dtype, Epilogue::kStore, false, 3);
      const PackedMatrix packed = PackMatrix(context, c.view, "w");
      ASSERT_EQ(packed.data.bytes(), (77 + packed.panel - 1) / packed.panel * packed.panel * 53 * DTypeBytes(dtype));
      for (size_t column = 0; column < packed.data.bytes() / 53 / DTypeBytes(dtype); ++column) {
        for (size_t i = 0; i < 53; ++i) {
          const size_t at = (column / packed.panel * 53 + i) * packed.panel + column % packed.panel;
          const float expected = column < 77 ? c.weights[column * 53 + i] : 0.0f;
          ASSERT_EQ(test::Load(packed.data.data(), at, dtype), expected) << column << ' ' << i;
        }
      }
    }
  });
}

TEST(PackMatrix, NamesTheFirstNumberThatIsNotFinite) {
  ForEachTarget([] {
    Context context(2);
    for (const DType dtype : test::kDTypes) {
      for (const size_t bad : {size_t{0}, size_t{40 * 53 + 17}, size_t{77 * 53 - 1}}) {
        Case c(1, 77, 53, dtype, Epilogue::kStore, false, 3);
        const uint32_t bits = dtype == DType::kF32 ? 0x7F800000u : dtype == DType::kF16 ? 0xFC00u : 0xFFC0u;
        std::memcpy(c.bytes.data() + 1 + bad * DTypeBytes(dtype), &bits, DTypeBytes(dtype));
        try {
          PackMatrix(context, c.view, "blocks.3.weight");
          FAIL() << "accepted";
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kNotFinite);
          const std::string place = Message("[", bad / 53, ", ", bad % 53, "]");
          EXPECT_NE(std::string(error.what()).find("blocks.3.weight"), std::string::npos) << error.what();
          EXPECT_NE(std::string(error.what()).find(place), std::string::npos) << error.what();
        }
      }
    }
  });
}

TEST(Linear, RefusesBadArguments) {
  Context context(1);
  const Case c(4, 8, 8, DType::kF32, Epilogue::kStore, false, 0);
  const PackedMatrix packed = PackMatrix(context, c.view, "w");
  std::vector<float> a(64), out(64);
  const LinearArgs good{
      .out = out.data(), .out_stride = 8, .a = a.data(), .a_stride = 8, .num_rows = 4, .weights = &packed, .spans = {}};
  Linear(context, good);
  const auto refused = [&](auto change) {
    LinearArgs args = good;
    change(args);
    EXPECT_THROW(Linear(context, args), Error);
  };
  refused([](LinearArgs& args) { args.weights = nullptr; });
  refused([](LinearArgs& args) { args.out_stride = 7; });
  refused([](LinearArgs& args) { args.a_stride = 7; });
  refused([](LinearArgs& args) { args.a = nullptr; });
  refused([](LinearArgs& args) { args.epilogue = Epilogue::kResidual; });  // no spans
  refused([&](LinearArgs& args) { args.out = a.data(); });                 // in place
  refused([&](LinearArgs& args) { args.out = a.data() + 9; });
  const std::vector<RowSpan> gap = {{0, 0, 2, nullptr}, {3, 2, 1, nullptr}};
  refused([&](LinearArgs& args) { args.epilogue = Epilogue::kResidual, args.spans = gap; });
  // Side by side in one buffer is fine.
  std::vector<float> both(64);
  LinearArgs args = good;
  args.a = both.data(), args.out = both.data() + 8, args.a_stride = args.out_stride = 16;
  EXPECT_NO_THROW(Linear(context, args));
  args.num_rows = 0, args.out = nullptr;
  EXPECT_NO_THROW(Linear(context, args));
}

}  // namespace
}  // namespace nextscale
