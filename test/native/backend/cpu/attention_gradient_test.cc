// Attention as training runs it, against plain double arithmetic and its finite differences.
#include "native/ops/attention_gradient.h"

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/attention.h"
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

// Sequences of random scales, one after the other.
struct Shape {
  Shape(Random& random, size_t num_sequences, size_t max_side) {
    for (size_t i = 0; i < num_sequences; ++i) {
      std::vector<size_t>& scale_ends = ends.emplace_back();
      size_t rows = 0;
      for (size_t side = 1; side <= max_side; ++side) {
        // Some scales are left out: the block did not run there.
        if (side < max_side && random.Index(0, 3) == 0) continue;
        scale_ends.push_back(rows += side * side);
      }
      first_rows.push_back(num_rows);
      num_rows += rows;
    }
    for (size_t i = 0; i < num_sequences; ++i) sequences.push_back({.first_row = first_rows[i], .ends = ends[i]});
  }
  std::vector<std::vector<size_t>> ends;
  std::vector<size_t> first_rows;
  std::vector<CausalSequence> sequences;
  size_t num_rows = 0;
};

// out [M, C] of qkv [M, 3C], both dense.
Doubles NaiveAttention(const Doubles& qkv, const Shape& shape, size_t num_heads, size_t head_dim, double factor) {
  const size_t width = num_heads * head_dim;
  Doubles out(shape.num_rows * width);
  for (const CausalSequence& sequence : shape.sequences) {
    for (size_t head = 0; head < num_heads; ++head) {
      size_t row = 0;
      for (const size_t end : sequence.ends) {
        for (; row < end; ++row) {
          const double* q = &qkv[(sequence.first_row + row) * 3 * width + head * head_dim];
          Doubles weights(end);
          double sum = 0;
          for (size_t j = 0; j < end; ++j) {
            const double* k = &qkv[(sequence.first_row + j) * 3 * width + width + head * head_dim];
            double score = 0;
            for (size_t d = 0; d < head_dim; ++d) score += q[d] * k[d];
            sum += weights[j] = std::exp(factor * score);
          }
          for (size_t j = 0; j < end; ++j) {
            const double* v = &qkv[(sequence.first_row + j) * 3 * width + 2 * width + head * head_dim];
            for (size_t d = 0; d < head_dim; ++d) {
              out[(sequence.first_row + row) * width + head * head_dim + d] += weights[j] / sum * v[d];
            }
          }
        }
      }
    }
  }
  return out;
}

// One sequence per scale, whose keys are the k | v columns of the rows up to its end.
std::vector<AttentionSequence> InPlace(std::span<const CausalSequence> sequences, const std::vector<float>& qkv,
                                       size_t qkv_stride, size_t width) {
  std::vector<AttentionSequence> scales;
  for (const CausalSequence& sequence : sequences) {
    const float* const keys = qkv.data() + sequence.first_row * qkv_stride + width;
    size_t begin = 0;
    for (const size_t end : sequence.ends) {
      AttentionSequence& scale = scales.emplace_back();
      scale.compact_row = sequence.first_row + begin;
      scale.num_rows = end - begin;
      scale.kv.tail = reinterpret_cast<std::byte*>(const_cast<float*>(keys));
      scale.kv.tail_rows = end;
      scale.kv.tail_stride = qkv_stride;
      begin = end;
    }
  }
  return scales;
}

// Runs forward and backward with strides that leave poisoned padding.
struct Passes {
  Passes(Context& context, const Shape& shape, const std::vector<float>& dense_qkv,
         const std::vector<float>& dense_dout, size_t num_heads, size_t head_dim, float factor, size_t padding) {
    const size_t width = num_heads * head_dim, qkv_stride = 3 * width + padding, out_stride = width + padding;
    const auto spread = [&](const std::vector<float>& dense, size_t columns, size_t stride) {
      std::vector<float> rows(shape.num_rows * stride, kPoison);
      for (size_t i = 0; i < dense.size(); ++i) rows[i / columns * stride + i % columns] = dense[i];
      return rows;
    };
    const std::vector<float> qkv = spread(dense_qkv, 3 * width, qkv_stride);
    const std::vector<float> dout_rows = spread(dense_dout, width, out_stride);
    std::vector<float> out_rows(shape.num_rows * out_stride, kPoison), dqkv_rows(qkv.size(), kPoison);
    std::vector<float> log_sums(shape.num_rows * num_heads, kPoison);
    const std::vector<AttentionSequence> scales = InPlace(shape.sequences, qkv, qkv_stride, width);
    Attention(context, {.out = out_rows.data(),
                        .out_stride = out_stride,
                        .q = qkv.data(),
                        .q_stride = qkv_stride,
                        .num_heads = num_heads,
                        .head_dim = head_dim,
                        .softmax_factor = factor,
                        .log_sums = log_sums.data(),
                        .sequences = scales});
    AttentionGradient(context, {.dqkv = dqkv_rows.data(),
                                .dout = dout_rows.data(),
                                .out = out_rows.data(),
                                .out_stride = out_stride,
                                .log_sums = log_sums.data(),
                                .qkv = qkv.data(),
                                .qkv_stride = qkv_stride,
                                .num_heads = num_heads,
                                .head_dim = head_dim,
                                .softmax_factor = factor,
                                .sequences = shape.sequences});
    for (size_t row = 0; row < shape.num_rows; ++row) {
      for (size_t c = 0; c < qkv_stride; ++c) {
        const float value = dqkv_rows[row * qkv_stride + c];
        if (c < 3 * width) dqkv.push_back(value);
        if (c >= 3 * width && value != kPoison) ++touched;
      }
      for (size_t c = 0; c < out_stride; ++c) {
        const float value = out_rows[row * out_stride + c];
        if (c < width) out.push_back(value);
        if (c >= width && value != kPoison) ++touched;
      }
    }
  }
  std::vector<float> out, dqkv;
  size_t touched = 0;  // padding that was written
};

TEST(AttentionGradient, MatchesDoubleAndFiniteDifferences) {
  ForEachTarget([] {
    Context context(3);
    Random random(11);
    for (int trial = 0; trial < 12; ++trial) {
      const Shape shape(random, random.Index(1, 2), random.Index(1, 3));
      const size_t num_heads = random.Index(1, 3), head_dim = trial == 0 ? 1 : random.Index(1, 9);
      const size_t width = num_heads * head_dim;
      const float factor = 0.25f + 0.5f * std::abs(random.Uniform());
      const std::vector<float> qkv = random.Floats(shape.num_rows * 3 * width, 1.5f);
      const std::vector<float> dout = random.Floats(shape.num_rows * width);
      const Passes run(context, shape, qkv, dout, num_heads, head_dim, factor, random.Index(0, 5));
      EXPECT_EQ(run.touched, 0u);
      Doubles x = Widen(qkv);
      const auto forward = [&] { return NaiveAttention(x, shape, num_heads, head_dim, static_cast<double>(factor)); };
      EXPECT_LT(RelativeDistance(run.out, forward()), 2e-6);
      const Doubles wanted = FiniteDifferences(x, [&] {
        const Doubles out = forward();
        double sum = 0;
        for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(dout[i]);
        return sum;
      });
      EXPECT_LT(RelativeDistance(run.dqkv, wanted), 1e-5) << trial;
    }
  });
}

// The analytic gradient in double: for shapes that are too large for differences.
Doubles NaiveGradient(const std::vector<float>& qkv, const std::vector<float>& dout, const Shape& shape,
                      size_t num_heads, size_t head_dim, double factor) {
  const size_t width = num_heads * head_dim;
  Doubles gradient(qkv.size());
  const auto at = [&](size_t row, size_t part, size_t head) {
    return row * 3 * width + part * width + head * head_dim;
  };
  for (const CausalSequence& sequence : shape.sequences) {
    for (size_t head = 0; head < num_heads; ++head) {
      size_t row = 0;
      for (const size_t end : sequence.ends) {
        for (; row < end; ++row) {
          const size_t query = sequence.first_row + row;
          Doubles weights(end), slopes(end);
          double sum = 0, mean = 0;
          for (size_t j = 0; j < end; ++j) {
            double score = 0;
            for (size_t d = 0; d < head_dim; ++d) {
              score += static_cast<double>(qkv[at(query, 0, head) + d]) *
                       static_cast<double>(qkv[at(sequence.first_row + j, 1, head) + d]);
              slopes[j] += static_cast<double>(dout[query * width + head * head_dim + d]) *
                           static_cast<double>(qkv[at(sequence.first_row + j, 2, head) + d]);
            }
            sum += weights[j] = std::exp(factor * score);
          }
          for (size_t j = 0; j < end; ++j) mean += (weights[j] /= sum) * slopes[j];
          for (size_t j = 0; j < end; ++j) {
            const double slope = factor * weights[j] * (slopes[j] - mean);
            const size_t key = sequence.first_row + j;
            for (size_t d = 0; d < head_dim; ++d) {
              gradient[at(query, 0, head) + d] += slope * static_cast<double>(qkv[at(key, 1, head) + d]);
              gradient[at(key, 1, head) + d] += slope * static_cast<double>(qkv[at(query, 0, head) + d]);
              gradient[at(key, 2, head) + d] +=
                  weights[j] * static_cast<double>(dout[query * width + head * head_dim + d]);
            }
          }
        }
      }
    }
  }
  return gradient;
}

TEST(AttentionGradient, LargerShapesAndTheirGradient) {
  ForEachTarget([] {
    Context context(3);
    Random random(12);
    for (const auto& [max_side, head_dim] : {std::pair<size_t, size_t>{8, 64}, {11, 20}, {9, 33}, {3, 100}}) {
      const Shape shape(random, 2, max_side);
      const size_t num_heads = 2, width = num_heads * head_dim;
      const float factor = 1.0f / std::sqrt(static_cast<float>(head_dim));
      const std::vector<float> qkv = random.Floats(shape.num_rows * 3 * width, 2.0f);
      const std::vector<float> dout = random.Floats(shape.num_rows * width);
      const Passes run(context, shape, qkv, dout, num_heads, head_dim, factor, 3);
      EXPECT_EQ(run.touched, 0u);
      EXPECT_LT(RelativeDistance(run.out, NaiveAttention(Widen(qkv), shape, num_heads, head_dim, factor)), 5e-6);
      EXPECT_LT(RelativeDistance(run.dqkv, NaiveGradient(qkv, dout, shape, num_heads, head_dim, factor)), 1e-5)
          << max_side << " " << head_dim;
    }
  });
}

TEST(AttentionGradient, SameBitsAtAnyThreadCount) {
  ForEachTarget([] {
    Random random(13);
    const Shape shape(random, 1, 9);
    const std::vector<float> qkv = random.Floats(shape.num_rows * 3 * 40), dout = random.Floats(shape.num_rows * 40);
    Context one(1);
    const Passes alone(one, shape, qkv, dout, 2, 20, 1.0f, 0);
    for (const size_t threads : {2, 3, 7}) {
      Context context(threads);
      const Passes run(context, shape, qkv, dout, 2, 20, 1.0f, 0);
      EXPECT_EQ(run.out, alone.out) << threads;
      EXPECT_EQ(run.dqkv, alone.dqkv) << threads;
    }
  });
}

// What a cached run computes scale by scale, from rows of keys and values of their own.
TEST(AttentionGradient, AgreesWithInference) {
  Context context(2);
  Random random(14);
  const Shape shape(random, 1, 7);
  const size_t num_heads = 2, head_dim = 16, width = 32;
  std::vector<float> qkv = random.Floats(shape.num_rows * 3 * width);
  const Passes run(context, shape, qkv, std::vector<float>(shape.num_rows * width), num_heads, head_dim, 0.3f, 0);
  std::vector<float> tail;
  for (size_t row = 0; row < shape.num_rows; ++row) {
    tail.insert(tail.end(), qkv.begin() + static_cast<std::ptrdiff_t>(row * 3 * width + width),
                qkv.begin() + static_cast<std::ptrdiff_t>((row + 1) * 3 * width));
  }
  size_t begin = 0;
  for (const size_t end : shape.ends[0]) {
    std::vector<float> out((end - begin) * width);
    const std::vector<AttentionSequence> sequences = {{.compact_row = 0,
                                                       .num_rows = end - begin,
                                                       .kv = {.dtype = DType::kF32,
                                                              .pool = nullptr,
                                                              .slots = {},
                                                              .tail = reinterpret_cast<std::byte*>(tail.data()),
                                                              .tail_rows = end}}};
    Attention(context, {.out = out.data(),
                        .out_stride = width,
                        .q = qkv.data() + begin * 3 * width,
                        .q_stride = 3 * width,
                        .num_heads = num_heads,
                        .head_dim = head_dim,
                        .softmax_factor = 0.3f,
                        .sequences = sequences});
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(run.out[begin * width + i], out[i], 1e-5);
    begin = end;
  }
}

TEST(SplitHeadsGradient, MatchesDoubleAndFiniteDifferences) {
  ForEachTarget([] {
    Context context(3);
    Random random(15);
    for (int trial = 0; trial < 10; ++trial) {
      const size_t num_rows = random.Index(1, 4), num_heads = random.Index(1, 3), head_dim = random.Index(1, 37);
      const size_t width = num_heads * head_dim, stride = 3 * width + random.Index(0, 4);
      std::vector<float> qkv = random.Floats(num_rows * stride, 2.0f), factor = random.Floats(num_heads);
      for (float& value : factor) value = 1.5f + value;
      const std::vector<float> raw = qkv, dout = random.Floats(num_rows * stride);
      std::vector<float> norms(num_rows * 2 * num_heads), dfactor(num_heads, 0.5f), dqkv = dout;
      const std::vector<size_t> ends = {num_rows};
      const std::vector<CausalSequence> sequences = {{.first_row = 0, .ends = ends}};
      const std::vector<AttentionSequence> scales = InPlace(sequences, qkv, stride, width);
      SplitHeads(context, {.qkv = qkv.data(),
                           .qkv_stride = stride,
                           .num_heads = num_heads,
                           .head_dim = head_dim,
                           .head_factor = factor.data(),
                           .inverse_norms = norms.data(),
                           .sequences = scales});
      SplitHeadsGradient(context, {.dqkv = dqkv.data(),
                                   .qkv = qkv.data(),
                                   .qkv_stride = stride,
                                   .inverse_norms = norms.data(),
                                   .num_rows = num_rows,
                                   .num_heads = num_heads,
                                   .head_dim = head_dim,
                                   .head_factor = factor.data(),
                                   .dhead_factor = dfactor.data()});
      Doubles x = Widen(raw), factors = Widen(factor);
      const auto forward = [&] {
        Doubles out = x;
        for (size_t row = 0; row < num_rows; ++row) {
          for (size_t i = 0; i < 2 * num_heads; ++i) {
            double* values = &out[row * stride + i * head_dim];
            double square = 0;
            for (size_t d = 0; d < head_dim; ++d) square += values[d] * values[d];
            for (size_t d = 0; d < head_dim; ++d) values[d] *= (i < num_heads ? factors[i] : 1.0) / std::sqrt(square);
          }
        }
        return out;
      };
      EXPECT_LT(RelativeDistance(qkv, forward()), 1e-6);
      const auto loss = [&] {
        const Doubles out = forward();
        double sum = 0;
        for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(dout[i]);
        return sum;
      };
      EXPECT_LT(RelativeDistance(dqkv, FiniteDifferences(x, loss)), 1e-5) << trial;
      Doubles wanted = FiniteDifferences(factors, loss);
      for (double& value : wanted) value += 0.5;  // it adds
      EXPECT_LT(RelativeDistance(dfactor, wanted), 1e-5) << trial;
    }
  });
}

TEST(SplitHeadsGradient, NothingIsNormalisedToNothing) {
  Context context(1);
  std::vector<float> qkv(6), norms(2), factor = {2.0f}, dqkv(6, 1.0f), dfactor(1);
  const std::vector<size_t> ends = {1};
  const std::vector<CausalSequence> sequences = {{.first_row = 0, .ends = ends}};
  const std::vector<AttentionSequence> scales = InPlace(sequences, qkv, 6, 2);
  SplitHeads(context, {.qkv = qkv.data(),
                       .qkv_stride = 6,
                       .num_heads = 1,
                       .head_dim = 2,
                       .head_factor = factor.data(),
                       .inverse_norms = norms.data(),
                       .sequences = scales});
  for (const float value : qkv) EXPECT_EQ(value, 0.0f);
  SplitHeadsGradient(context, {.dqkv = dqkv.data(),
                               .qkv = qkv.data(),
                               .qkv_stride = 6,
                               .inverse_norms = norms.data(),
                               .num_rows = 1,
                               .num_heads = 1,
                               .head_dim = 2,
                               .head_factor = factor.data(),
                               .dhead_factor = dfactor.data()});
  for (const float value : dqkv) EXPECT_TRUE(std::isfinite(value));
}

TEST(AttentionGradient, RefusesBadArguments) {
  Context context(1);
  std::vector<float> qkv(24), out(8), log_sums(4), dqkv(24);
  const std::vector<size_t> ends = {1, 2}, falling = {2, 1}, none;
  const std::vector<CausalSequence> sequences = {{.first_row = 0, .ends = ends}};
  const AttentionGradientArgs good{.dqkv = dqkv.data(),
                                   .dout = out.data(),
                                   .out = out.data(),
                                   .out_stride = 4,
                                   .log_sums = log_sums.data(),
                                   .qkv = qkv.data(),
                                   .qkv_stride = 12,
                                   .num_heads = 2,
                                   .head_dim = 2,
                                   .softmax_factor = 1.0f,
                                   .sequences = sequences};
  EXPECT_NO_THROW(AttentionGradient(context, good));
  const auto refused = [&](auto change) {
    AttentionGradientArgs args = good;
    change(args);
    EXPECT_THROW(AttentionGradient(context, args), Error);
  };
  refused([](auto& args) { args.qkv_stride = 11; });
  refused([](auto& args) { args.out_stride = 3; });
  refused([](auto& args) { args.head_dim = 0; });
  refused([](auto& args) { args.log_sums = nullptr; });
  const std::vector<CausalSequence> wrong = {{.first_row = 0, .ends = falling}},
                                    empty = {{.first_row = 0, .ends = none}};
  refused([&](auto& args) { args.sequences = wrong; });
  refused([&](auto& args) { args.sequences = empty; });
}

}  // namespace
}  // namespace nextscale
