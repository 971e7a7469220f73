#include "native/ops/norm_gradient.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/linear.h"
#include "native/ops/norm.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

constexpr float kPoison = -77.0f;

// Two or three sequences of one or two spans each; rows of x that no span covers, padding behind every row.
struct Case {
  Case(size_t width, size_t longest, uint64_t seed)
      : width(width), stride(width + seed % 4), x_stride(width + seed % 3), chunks(3 * width + 2) {
    Random random(seed);
    const size_t num_sequences = 2 + seed % 2;
    modulation = random.Floats(num_sequences * chunks);
    dmodulation = random.Floats(num_sequences * chunks);
    std::vector<std::pair<size_t, size_t>> runs;  // sequence, rows
    for (size_t sequence = 0; sequence < num_sequences; ++sequence) {
      runs.emplace_back(sequence, random.Index(1, longest));
      if ((seed + sequence) % 2 == 0) runs.emplace_back(sequence, random.Index(0, longest));
    }
    // In x, the spans stand in reverse order, one row apart.
    size_t x_row = 1;
    x_rows.resize(runs.size());
    for (size_t i = runs.size(); i-- > 0;) x_rows[i] = x_row, x_row += runs[i].second + 1;
    num_x_rows = x_row;
    for (size_t i = 0; i < runs.size(); ++i) {
      sequences.push_back(runs[i].first);
      sizes.push_back(runs[i].second);
      m += runs[i].second;
    }
    x = Rows(random, num_x_rows, x_stride, 3.0f);
    dx = Rows(random, num_x_rows, x_stride, 1.0f);
    y = Rows(random, m, stride, 1.0f);
    dy = Rows(random, m, stride, 1.0f);
  }

  std::vector<float> Rows(Random& random, size_t rows, size_t row_stride, float factor) const {
    std::vector<float> values = random.Floats(rows * row_stride, factor);
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % row_stride >= width) values[i] = kPoison;
    }
    return values;
  }

  // Spans whose gradients go to `to`, which is laid out as the modulations are.
  std::vector<RowSpan> Spans(float* to) const {
    std::vector<RowSpan> spans;
    size_t row = 0;
    for (size_t i = 0; i < sizes.size(); row += sizes[i++]) {
      spans.push_back({row, x_rows[i], sizes[i], modulation.data() + sequences[i] * chunks,
                       to == nullptr ? nullptr : to + sequences[i] * chunks});
    }
    return spans;
  }

  // body(compact row, row of x, first modulation of the row's sequence)
  template <typename Body>
  void ForEachRow(const Body& body) const {
    size_t row = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      for (size_t r = 0; r < sizes[i]; ++r) body(row++, x_rows[i] + r, sequences[i] * chunks);
    }
  }

  size_t width, stride, x_stride, chunks, m = 0, num_x_rows = 0;
  std::vector<float> modulation, dmodulation, x, dx, y, dy;
  std::vector<size_t> sequences, sizes, x_rows;
};

constexpr size_t kShift = 1;  // the first chunk starts at 1, the next follow
size_t Gain(const Case& c) { return c.width + 1; }
size_t Gate(const Case& c) { return 2 * c.width + 1; }

// x in double precision, normalised.
std::vector<double> NaiveNormal(const std::vector<double>& x, double* inverse_deviation = nullptr) {
  double mean = 0.0, variance = 0.0;
  for (const double value : x) mean += value / static_cast<double>(x.size());
  for (const double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
  const double factor = 1.0 / std::sqrt(variance + 1e-6);
  if (inverse_deviation != nullptr) *inverse_deviation = factor;
  std::vector<double> normal;
  for (const double value : x) normal.push_back((value - mean) * factor);
  return normal;
}

std::vector<double> Wide(const float* from, size_t count) { return {from, from + count}; }

// Largest difference from what was expected, padding included, relative to `bound`.
void Near(const std::vector<float>& found, const std::vector<double>& expected, double bound, const char* what) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], expected[i] == static_cast<double>(kPoison) ? 0.0 : bound)
        << what << " at " << i;
  }
}

struct Normalized {
  std::vector<float> normal, inverse_deviation;
};

Normalized Normalize(Context& context, const Case& c) {
  Normalized out{std::vector<float>(c.m * c.stride, kPoison), std::vector<float>(c.m)};
  const std::vector<RowSpan> spans = c.Spans(nullptr);
  std::vector<float> modulated(out.normal.size());
  ModulatedNorm(context, {.out = modulated.data(),
                          .out_stride = c.stride,
                          .x = c.x.data(),
                          .x_stride = c.x_stride,
                          .width = c.width,
                          .spans = spans,
                          .gain_offset = Gain(c),
                          .shift_offset = kShift,
                          .normal = out.normal.data(),
                          .inverse_deviation = out.inverse_deviation.data()});
  return out;
}

// x += gate · y, by the linear layer that changes nothing; what it keeps is y.
void GatedResidual(Context& context, const Case& c, std::span<const RowSpan> spans, const std::vector<float>& y,
                   std::vector<float>& x) {
  std::vector<float> identity(c.width * c.width), kept(y.size(), kPoison);
  for (size_t i = 0; i < c.width; ++i) identity[i * c.width + i] = 1.0f;
  PackedMatrix weights = MakePackedMatrix(c.width, c.width);
  Repack(context, identity.data(), weights);
  Linear(context, {.out = x.data(),
                   .out_stride = c.x_stride,
                   .a = y.data(),
                   .a_stride = c.stride,
                   .num_rows = c.m,
                   .weights = &weights,
                   .epilogue = Epilogue::kResidual,
                   .spans = spans,
                   .gate_offset = Gate(c),
                   .kept = kept.data(),
                   .kept_stride = c.stride});
  EXPECT_EQ(kept, y);
}

TEST(NormGradient, ForwardMatchesDouble) {
  ForEachTarget([] {
    Context context(3);
    Random random(5);
    for (uint64_t trial = 0; trial < 30; ++trial) {
      const Case c(random.Index(2, 300), random.Index(1, 30), trial);
      const Normalized found = Normalize(context, c);
      const std::vector<RowSpan> spans = c.Spans(nullptr);
      std::vector<float> out(c.m * c.stride, kPoison), x = c.x;
      Modulate(context, {out.data(), found.normal.data(), c.stride, c.width, spans, Gain(c), kShift});
      GatedResidual(context, c, spans, c.y, x);
      std::vector<double> normal(c.m * c.stride, static_cast<double>(kPoison)), modulated = normal,
                                                                                sums = Wide(c.x.data(), c.x.size());
      double largest = 0.0;
      c.ForEachRow([&](size_t row, size_t x_row, size_t modulation) {
        double factor = 0.0;
        const std::vector<double> expected = NaiveNormal(Wide(&c.x[x_row * c.x_stride], c.width), &factor);
        ASSERT_NEAR(found.inverse_deviation[row], factor, 2e-6 * factor * (1.0 + factor));
        largest = std::max(largest, factor);
        for (size_t i = 0; i < c.width; ++i) {
          const auto at = [&](size_t offset) { return static_cast<double>(c.modulation[modulation + offset + i]); };
          normal[row * c.stride + i] = expected[i];
          modulated[row * c.stride + i] = expected[i] * (1.0 + at(Gain(c))) + at(kShift);
          sums[x_row * c.x_stride + i] += at(Gate(c)) * static_cast<double>(c.y[row * c.stride + i]);
        }
      });
      // The mean is off by some 2^-24 · max|x|, which the factor amplifies.
      ASSERT_NO_FATAL_FAILURE(Near(found.normal, normal, 5e-6 * (1.0 + largest), "normal"));
      ASSERT_NO_FATAL_FAILURE(Near(out, modulated, 1e-5 * (1.0 + largest), "modulated"));
      ASSERT_NO_FATAL_FAILURE(Near(x, sums, 1e-6, "residual"));
    }
  });
}

// The loss Σ dy · (normal · (1 + gain) + shift) of one row.
double RowLoss(const Case& c, size_t row, size_t modulation, const std::vector<double>& x) {
  const std::vector<double> normal = NaiveNormal(x);
  double loss = 0.0;
  for (size_t i = 0; i < c.width; ++i) {
    const auto gain = static_cast<double>(c.modulation[modulation + Gain(c) + i]);
    const auto shift = static_cast<double>(c.modulation[modulation + kShift + i]);
    loss += static_cast<double>(c.dy[row * c.stride + i]) * (normal[i] * (1.0 + gain) + shift);
  }
  return loss;
}

TEST(NormGradient, NormMatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(2);
    Random random(6);
    for (uint64_t trial = 0; trial < 16; ++trial) {
      // Wide enough that no row's deviation is next to nothing: differences need a smooth loss.
      const Case c(random.Index(12, trial % 8 == 0 ? 150 : 50), random.Index(1, 12), trial);
      const Normalized kept = Normalize(context, c);
      std::vector<float> dx = c.dx, dmodulation = c.dmodulation;
      const std::vector<RowSpan> spans = c.Spans(dmodulation.data());
      ModulatedNormGradient(context, {dx.data(), c.x_stride, c.dy.data(), kept.normal.data(), c.stride,
                                      kept.inverse_deviation.data(), c.width, spans, Gain(c), kShift});
      std::vector<double> expected_dx = Wide(c.dx.data(), c.dx.size());
      std::vector<double> expected = Wide(c.dmodulation.data(), c.dmodulation.size());
      c.ForEachRow([&](size_t row, size_t x_row, size_t modulation) {
        std::vector<double> x = Wide(&c.x[x_row * c.x_stride], c.width);
        const std::vector<double> normal = NaiveNormal(x);
        for (size_t i = 0; i < c.width; ++i) {
          constexpr double kStep = 1e-5;
          const double middle = x[i];
          x[i] = middle + kStep;
          const double above = RowLoss(c, row, modulation, x);
          x[i] = middle - kStep;
          const double below = RowLoss(c, row, modulation, x);
          x[i] = middle;
          expected_dx[x_row * c.x_stride + i] += (above - below) / (2.0 * kStep);
          // The loss is linear in gain and shift.
          const auto dy = static_cast<double>(c.dy[row * c.stride + i]);
          expected[modulation + Gain(c) + i] += dy * normal[i];
          expected[modulation + kShift + i] += dy;
        }
      });
      ASSERT_NO_FATAL_FAILURE(Near(dx, expected_dx, 1e-5, "dx")) << "trial " << trial;
      ASSERT_NO_FATAL_FAILURE(Near(dmodulation, expected, 3e-5, "dmodulation")) << "trial " << trial;
    }
  });
}

TEST(NormGradient, GatedResidualMatchesFiniteDifferences) {
  ForEachTarget([] {
    Context context(2);
    Random random(7);
    for (uint64_t trial = 0; trial < 30; ++trial) {
      const Case c(random.Index(1, 300), random.Index(1, 30), trial);
      std::vector<float> dy(c.y.size(), kPoison), dmodulation = c.dmodulation;
      const std::vector<RowSpan> spans = c.Spans(dmodulation.data());
      GatedResidualGradient(context,
                            {dy.data(), c.dx.data(), c.x_stride, c.y.data(), c.stride, c.width, spans, Gate(c)});
      std::vector<double> expected_dy(c.y.size(), static_cast<double>(kPoison));
      std::vector<double> expected = Wide(c.dmodulation.data(), c.dmodulation.size());
      c.ForEachRow([&](size_t row, size_t x_row, size_t modulation) {
        for (size_t i = 0; i < c.width; ++i) {
          // The loss dx · (x + gate · y) is linear in gate and in y: differences at any step are exact.
          const auto gate = static_cast<double>(c.modulation[modulation + Gate(c) + i]);
          const auto y = static_cast<double>(c.y[row * c.stride + i]);
          const auto loss = [&](double with_gate, double with_y) {
            const auto x = static_cast<double>(c.x[x_row * c.x_stride + i]);
            return static_cast<double>(c.dx[x_row * c.x_stride + i]) * (x + with_gate * with_y);
          };
          expected_dy[row * c.stride + i] = loss(gate, y + 0.5) - loss(gate, y - 0.5);
          expected[modulation + Gate(c) + i] += loss(gate + 0.5, y) - loss(gate - 0.5, y);
        }
      });
      ASSERT_NO_FATAL_FAILURE(Near(dy, expected_dy, 1e-6, "dy")) << "trial " << trial;
      ASSERT_NO_FATAL_FAILURE(Near(dmodulation, expected, 2e-5, "dmodulation")) << "trial " << trial;
    }
  });
}

// Every op after another on one thread and on several, dy in the place of y: the same bits.
TEST(NormGradient, DoesNotDependOnThreadsOrPlace) {
  ForEachTarget([] {
    const Case c(517, 40, 3);
    const auto run = [&](size_t threads, bool in_place) {
      Context context(threads);
      const Normalized kept = Normalize(context, c);
      std::vector<float> out = kept.normal, x = c.x, dx = c.dx, y = c.y, dy(c.y.size(), kPoison);
      std::vector<float> dmodulation = c.dmodulation;
      const std::vector<RowSpan> spans = c.Spans(dmodulation.data());
      Modulate(context, {out.data(), kept.normal.data(), c.stride, c.width, spans, Gain(c), kShift});
      GatedResidual(context, c, spans, y, x);
      ModulatedNormGradient(context, {dx.data(), c.x_stride, c.dy.data(), kept.normal.data(), c.stride,
                                      kept.inverse_deviation.data(), c.width, spans, Gain(c), kShift});
      float* const to = in_place ? y.data() : dy.data();
      GatedResidualGradient(context, {to, dx.data(), c.x_stride, y.data(), c.stride, c.width, spans, Gate(c)});
      std::vector<float> all;
      for (const auto& part : {kept.normal, kept.inverse_deviation, out, x, dx, dmodulation, in_place ? y : dy}) {
        all.insert(all.end(), part.begin(), part.end());
      }
      return all;
    };
    const std::vector<float> expected = run(1, false);
    for (const size_t threads : {size_t{1}, size_t{2}, size_t{3}}) EXPECT_EQ(run(threads, true), expected) << threads;
    EXPECT_EQ(run(3, false), expected);
  });
}

template <typename Args, typename Op, typename Change>
void Refused(Op op, Args args, const Change& change) {
  Context context(1);
  EXPECT_NO_THROW(op(context, args));
  change(args);
  try {
    op(context, args);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
  }
}

TEST(NormGradient, RefusesBadArguments) {
  std::vector<float> x(48), y(48), dy(48), dev(4), modulation(24), dmodulation(48);
  const auto spans_of = [&](std::array<float*, 3> to) {
    return std::vector<RowSpan>{
        {0, 0, 1, modulation.data(), to[0]}, {1, 1, 1, modulation.data(), to[1]}, {2, 2, 1, modulation.data(), to[2]}};
  };
  float* const first = dmodulation.data();
  const auto good = spans_of({first, first, first + 24}), torn = spans_of({first, first + 24, first});
  const auto bare = spans_of({first, first, nullptr});
  auto late = good, plain = good;
  late[1].compact_row = 2;
  plain[2].modulation = nullptr;

  const ModulatedNormArgs normalize{.out = dy.data(),
                                    .out_stride = 8,
                                    .x = x.data(),
                                    .x_stride = 8,
                                    .width = 8,
                                    .spans = good,
                                    .gain_offset = 0,
                                    .shift_offset = 8,
                                    .normal = y.data(),
                                    .inverse_deviation = dev.data()};
  Refused(ModulatedNorm, normalize, [](auto& args) { args.width = 0; });
  Refused(ModulatedNorm, normalize, [](auto& args) { args.out_stride = 7; });
  Refused(ModulatedNorm, normalize, [](auto& args) { args.x_stride = 7; });
  Refused(ModulatedNorm, normalize, [](auto& args) { args.inverse_deviation = nullptr; });
  Refused(ModulatedNorm, normalize, [&](auto& args) { args.spans = late; });

  const ModulateArgs modulate{dy.data(), y.data(), 8, 8, good, 0, 8};
  Refused(Modulate, modulate, [](auto& args) { args.stride = 7; });
  Refused(Modulate, modulate, [](auto& args) { args.normal = nullptr; });
  Refused(Modulate, modulate, [&](auto& args) { args.spans = plain; });

  const ModulatedNormGradientArgs gradient{x.data(), 8, dy.data(), y.data(), 8, dev.data(), 8, good, 0, 8};
  Refused(ModulatedNormGradient, gradient, [](auto& args) { args.x_stride = 7; });
  Refused(ModulatedNormGradient, gradient, [](auto& args) { args.dx = nullptr; });
  Refused(ModulatedNormGradient, gradient, [&](auto& args) { args.spans = late; });
  Refused(ModulatedNormGradient, gradient, [&](auto& args) { args.spans = bare; });
  Refused(ModulatedNormGradient, gradient, [&](auto& args) { args.spans = torn; });

  const GatedResidualGradientArgs gated{dy.data(), x.data(), 8, y.data(), 8, 8, good, 16};
  Refused(GatedResidualGradient, gated, [](auto& args) { args.stride = 7; });
  Refused(GatedResidualGradient, gated, [](auto& args) { args.dx = nullptr; });
  Refused(GatedResidualGradient, gated, [&](auto& args) { args.spans = bare; });
  Refused(GatedResidualGradient, gated, [&](auto& args) { args.spans = torn; });
}

TEST(NormGradient, NoRowsNothingToDo) {
  Context context(2);
  const std::vector<RowSpan> empty = {{0, 0, 0, nullptr, nullptr}};
  for (const std::span<const RowSpan> spans : {std::span<const RowSpan>{}, std::span<const RowSpan>{empty}}) {
    EXPECT_NO_THROW(ModulatedNormGradient(context, {nullptr, 8, nullptr, nullptr, 8, nullptr, 8, spans, 0, 8}));
    EXPECT_NO_THROW(GatedResidualGradient(context, {nullptr, nullptr, 8, nullptr, 8, 8, spans, 0}));
    EXPECT_NO_THROW(ModulatedNorm(context, {.out_stride = 8, .x_stride = 8, .width = 8, .spans = spans}));
  }
}

}  // namespace
}  // namespace nextscale
