#include "native/ops/attention.h"

#include <numeric>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

// Sequences whose cached rows stand at shuffled slots of one pool, each perhaps with a tail.
struct Case {
  struct Sequence {
    size_t num_rows, num_keys, tail_rows;
    bool operator==(const Sequence&) const = default;
  };

  Case(size_t num_heads, size_t head_dim, DType dtype, std::vector<Sequence> shape, uint64_t seed)
      : num_heads(num_heads), head_dim(head_dim), width(num_heads * head_dim), dtype(dtype), shape(shape) {
    Random random(seed);
    size_t num_slots = 0, num_tail = 0;
    for (const Sequence& s : shape) {
      num_rows += s.num_rows;
      num_slots += s.num_keys - s.tail_rows;
      num_tail += s.tail_rows;
    }
    order.resize(num_slots);
    std::iota(order.begin(), order.end(), 3u);  // slots 0..2 are not used
    for (size_t i = num_slots; i > 1; --i) std::swap(order[i - 1], order[random.Index(0, i - 1)]);
    kv = random.Floats((num_slots + 3 + num_tail) * 2 * width);
    for (float& value : kv) value = test::Round(value, dtype);
    bytes = test::Store(kv, dtype);
    const size_t row_bytes = 2 * width * DTypeBytes(dtype);
    size_t row = 0, slot = 0, tail = num_slots + 3;
    for (const Sequence& s : shape) {
      const size_t cached = s.num_keys - s.tail_rows;
      AttentionSequence sequence;
      sequence.compact_row = row;
      sequence.num_rows = s.num_rows;
      sequence.kv = {dtype, bytes.data(), std::span(order).subspan(slot, cached), bytes.data() + tail * row_bytes,
                     s.tail_rows};
      sequences.push_back(sequence);
      row += s.num_rows, slot += cached, tail += s.tail_rows;
    }
    q_stride = 3 * width + seed % 4;
    out_stride = width + seed % 3;
    q = random.Floats(num_rows * q_stride, 2.0f);
  }
  Case(const Case&) = delete;

  // Byte offset / row bytes of key `index`.
  size_t Row(const AttentionSequence& s, size_t index) const {
    const size_t tail = static_cast<size_t>(s.kv.tail - s.kv.pool) / (2 * width * DTypeBytes(dtype));
    return index < s.kv.slots.size() ? s.kv.slots[index] : tail + index - s.kv.slots.size();
  }

  AttentionArgs Args(std::vector<float>& out) const {
    AttentionArgs args;
    args.out = out.data();
    args.out_stride = out_stride;
    args.q = q.data();
    args.q_stride = q_stride;
    args.num_heads = num_heads;
    args.head_dim = head_dim;
    args.softmax_factor = 0.7f;
    args.sequences = sequences;
    return args;
  }

  void Check(const std::vector<float>& out) const {
    for (const AttentionSequence& s : sequences) {
      const size_t num_keys = s.kv.slots.size() + s.kv.tail_rows;
      for (size_t row = s.compact_row; row < s.compact_row + s.num_rows; ++row) {
        for (size_t h = 0; h < num_heads; ++h) CheckHead(s, num_keys, row, h, out);
        for (size_t c = width; c < out_stride; ++c) ASSERT_EQ(out[row * out_stride + c], -77.0f);
      }
    }
  }

  void CheckHead(const AttentionSequence& s, size_t num_keys, size_t row, size_t h,
                 const std::vector<float>& out) const {
    std::vector<double> weights(num_keys), expected(head_dim, 0.0);
    double largest = -1e300, sum = 0.0, norm = 0.0;
    for (size_t j = 0; j < num_keys; ++j) {
      double score = 0.0, here = 0.0;
      for (size_t d = 0; d < head_dim; ++d) {
        const double product = static_cast<double>(q[row * q_stride + h * head_dim + d]) *
                               static_cast<double>(kv[Row(s, j) * 2 * width + h * head_dim + d]);
        score += product;
        here += std::fabs(product);
      }
      weights[j] = static_cast<double>(0.7f) * score;
      largest = std::max(largest, weights[j]);
      norm = std::max(norm, here);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (size_t j = 0; j < num_keys; ++j) {
      for (size_t d = 0; d < head_dim; ++d) {
        expected[d] += weights[j] / sum * static_cast<double>(kv[Row(s, j) * 2 * width + width + h * head_dim + d]);
      }
    }
    // A score is off by (D + 4) half ulps of its norm: each weight by that much relative, twice with the sum; |v| <= 1.
    const double half_ulp = 0x1p-24;
    const double bound = 4.0 * (static_cast<double>(head_dim) + 4.0) * half_ulp * norm +
                         2.0 * (static_cast<double>(num_keys) + 16.0) * half_ulp + 4e-7;
    for (size_t d = 0; d < head_dim; ++d) {
      ASSERT_NEAR(out[row * out_stride + h * head_dim + d], expected[d], bound)
          << "row " << row << " head " << h << " dim " << head_dim;
    }
  }

  size_t num_heads, head_dim, width;
  DType dtype;
  std::vector<Sequence> shape;
  size_t num_rows = 0, q_stride, out_stride;
  std::vector<uint32_t> order;
  std::vector<float> kv, q;
  std::vector<std::byte> bytes;
  std::vector<AttentionSequence> sequences;
};

TEST(Attention, MatchesDouble) {
  ForEachTarget([] {
    Context context(2);
    Random random(9);
    for (uint64_t trial = 0; trial < 45; ++trial) {
      std::vector<Case::Sequence> shape;
      for (size_t s = random.Index(1, 3); s != 0; --s) {
        const size_t rows = random.Index(trial % 5 == 0 ? 0 : 1, trial % 7 == 0 ? 300 : 60);
        const size_t keys = rows + random.Index(rows == 0 ? 1 : 0, 200);
        shape.push_back({rows, keys, trial % 2 == 0 ? rows : 0});
      }
      const Case c(random.Index(1, 3), random.Index(1, trial % 9 == 0 ? 150 : 70), test::kDTypes[trial % 3], shape,
                   trial);
      std::vector<float> out(c.num_rows * c.out_stride + 1, -77.0f);
      Attention(context, c.Args(out));
      ASSERT_NO_FATAL_FAILURE(c.Check(out)) << "trial " << trial;
    }
  });
}

TEST(Attention, WidestHeadAndManyQueries) {
  ForEachTarget([] {
    Context context(2);
    for (const Case::Sequence shape : {Case::Sequence{400, 400, 0}, Case::Sequence{3, 130, 3}}) {
      const Case c(1, 1024, DType::kF32, {shape}, 3);  // more queries than one worker's scratch holds
      std::vector<float> out(c.num_rows * c.out_stride, -77.0f);
      Attention(context, c.Args(out));
      ASSERT_NO_FATAL_FAILURE(c.Check(out));
    }
  });
}

TEST(Attention, LargeScoresDoNotOverflow) {
  ForEachTarget([] {
    Context context(1);
    Case c(2, 8, DType::kF32, {{5, 300, 5}}, 4);
    for (float& value : c.q) value *= 40.0f;  // scores to a few hundred; e^300 is beyond float
    std::vector<float> out(c.num_rows * c.out_stride, -77.0f);
    Attention(context, c.Args(out));
    ASSERT_NO_FATAL_FAILURE(c.Check(out));
  });
}

TEST(Attention, RowDoesNotDependOnBatchOrThreads) {
  ForEachTarget([] {
    Context one(1), many(5);
    for (const DType dtype : test::kDTypes) {
      const Case c(3, 37, dtype, {{50, 211, 50}, {61, 300, 0}}, 12);
      std::vector<float> out(c.num_rows * c.out_stride), again(out.size());
      Attention(one, c.Args(out));
      Attention(many, c.Args(again));
      ASSERT_EQ(std::memcmp(out.data(), again.data(), out.size() * sizeof(float)), 0);
      for (const AttentionSequence& s : c.sequences) {
        for (size_t i = 0; i < s.num_rows; i += 7) {
          AttentionSequence row = s;
          row.compact_row = s.compact_row + i;
          row.num_rows = 1;
          AttentionArgs args = c.Args(again);
          args.sequences = std::span(&row, 1);
          again.assign(again.size(), 0.0f);
          Attention(many, args);
          ASSERT_EQ(std::memcmp(&again[row.compact_row * c.out_stride], &out[row.compact_row * c.out_stride],
                                c.width * sizeof(float)),
                    0);
        }
      }
    }
  });
}

TEST(SplitHeads, NormalizesAndStores) {
  ForEachTarget([] {
    Context context(3);
    Random random(2);
    for (uint64_t trial = 0; trial < 24; ++trial) {
      const DType dtype = test::kDTypes[trial % 3];
      const bool normalize = trial / 3 % 2 == 0;
      Case c(random.Index(1, 4), random.Index(1, 40), dtype, {{7, 20, 0}, {0, 4, 0}, {13, 13, 13}, {9, 30, 4}}, trial);
      if (trial == 0) std::fill_n(&c.q[5 * c.q_stride], 2 * c.width, 0.0f);  // a row of zeros stays zero
      const std::vector<float> factor = random.Floats(c.num_heads, 10.0f);
      std::vector<float> qkv = c.q;
      std::vector<std::byte> bytes = c.bytes;
      for (AttentionSequence& s : c.sequences)
        s.kv.tail = bytes.data() + (s.kv.tail - s.kv.pool), s.kv.pool = bytes.data();
      SplitHeadsArgs args;
      args.qkv = qkv.data();
      args.qkv_stride = c.q_stride;
      args.num_heads = c.num_heads;
      args.head_dim = c.head_dim;
      args.head_factor = normalize ? factor.data() : nullptr;
      args.sequences = c.sequences;
      SplitHeads(context, args);
      std::vector<float> expected = c.kv;  // rows that belong to no current token stay
      std::vector<bool> written(c.kv.size(), false);
      for (const AttentionSequence& s : c.sequences) {
        for (size_t i = 0; i < s.num_rows; ++i) {
          const float* in = &c.q[(s.compact_row + i) * c.q_stride];
          const size_t to = c.Row(s, s.kv.slots.size() + s.kv.tail_rows - s.num_rows + i) * 2 * c.width;
          for (size_t h = 0; h < c.num_heads; ++h) {
            double q_norm = 0.0, k_norm = 0.0;
            for (size_t d = h * c.head_dim; d < (h + 1) * c.head_dim; ++d) {
              q_norm += std::pow(static_cast<double>(in[d]), 2);
              k_norm += std::pow(static_cast<double>(in[c.width + d]), 2);
            }
            const double q_factor =
                normalize ? static_cast<double>(factor[h]) / std::max(std::sqrt(q_norm), 1e-12) : 1.0;
            const double k_factor = normalize ? 1.0 / std::max(std::sqrt(k_norm), 1e-12) : 1.0;
            for (size_t d = h * c.head_dim; d < (h + 1) * c.head_dim; ++d) {
              ASSERT_NEAR(qkv[(s.compact_row + i) * c.q_stride + d], static_cast<double>(in[d]) * q_factor,
                          1e-6 * 10.0);
              expected[to + d] = static_cast<float>(static_cast<double>(in[c.width + d]) * k_factor);
              written[to + d] = normalize;
              expected[to + c.width + d] = test::Round(in[2 * c.width + d], dtype);
              if (!normalize) expected[to + d] = test::Round(expected[to + d], dtype);
            }
          }
        }
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        // Exactly the rounded number, except that a normalised key has errors of its own before it is rounded.
        const double ulp = dtype == DType::kF32 ? 0x1p-22 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
        const double bound = written[i] ? 1.01 * ulp * std::fabs(static_cast<double>(expected[i])) + 0x1p-24 : 0.0;
        ASSERT_LE(std::fabs(static_cast<double>(test::Load(bytes.data(), i, dtype)) - static_cast<double>(expected[i])),
                  bound)
            << "trial " << trial << " at " << i;
      }
    }
  });
}

TEST(SplitHeads, RoundsToNearestEvenEverywhere) {
  ForEachTarget([] {
    Context context(1);
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      // Numbers of every size that the formats hold, on and next to ties, subnormals of f16 included.
      std::vector<float> qkv;
      const auto add = [&](float x) { qkv.insert(qkv.end(), {0.0f, x, -x}); };
      for (int exponent = -26; exponent < 15; ++exponent) {
        for (int step = 0; step < 64; ++step) {
          const float tie = std::ldexp(
              1.0f + static_cast<float>(step) / 64.0f + (dtype == DType::kF16 ? 0x1p-11f : 0x1p-8f), exponent);
          add(tie), add(std::nextafter(tie, 0.0f)), add(std::nextafter(tie, 1e9f)),
              add(std::ldexp(static_cast<float>(2 * step + 1), -25));
        }
      }
      const size_t count = qkv.size() / 3, rows = std::min<size_t>(count, 4096);
      std::vector<std::byte> kv(rows * 2 * 2);
      AttentionSequence sequence;
      sequence.num_rows = rows;
      sequence.kv.dtype = dtype;
      sequence.kv.tail = kv.data();
      sequence.kv.tail_rows = rows;
      for (size_t first = 0; first < count; first += rows) {
        const size_t here = std::min(rows, count - first);
        sequence.num_rows = sequence.kv.tail_rows = here;
        SplitHeadsArgs args{.qkv = qkv.data() + 3 * first,
                            .qkv_stride = 3,
                            .num_heads = 1,
                            .head_dim = 1,
                            .head_factor = nullptr,
                            .sequences = std::span(&sequence, 1)};
        SplitHeads(context, args);
        for (size_t i = 0; i < 2 * here; ++i) {
          const float in = qkv[3 * (first + i / 2) + 1 + i % 2];
          ASSERT_EQ(test::Load(kv.data(), i, dtype), test::Round(in, dtype)) << in;
        }
      }
    }
  });
}

TEST(Attention, RefusesBadArguments) {
  Context context(1);
  const Case c(2, 8, DType::kF32, {{4, 9, 4}}, 1);
  std::vector<float> out(c.num_rows * c.out_stride);
  EXPECT_NO_THROW(Attention(context, c.Args(out)));
  const auto refused = [&](auto change) {
    AttentionArgs args = c.Args(out);
    AttentionSequence sequence = c.sequences[0];
    args.sequences = std::span(&sequence, 1);
    change(args, sequence);
    EXPECT_THROW(Attention(context, args), Error);
  };
  refused([](AttentionArgs& args, AttentionSequence&) { args.head_dim = 1025; });
  refused([](AttentionArgs& args, AttentionSequence&) { args.num_heads = 0; });
  refused([](AttentionArgs& args, AttentionSequence&) { args.out_stride = 15; });
  refused([](AttentionArgs& args, AttentionSequence&) { args.softmax_factor = std::nanf(""); });
  refused([&](AttentionArgs& args, AttentionSequence&) {
    args.out = const_cast<void*>(args.q), args.out_stride = args.q_stride;
  });
  refused([](AttentionArgs&, AttentionSequence& sequence) { sequence.num_rows = 10; });  // more tokens than key rows
  refused([](AttentionArgs&, AttentionSequence& sequence) { sequence.kv.pool = nullptr; });
  refused([](AttentionArgs&, AttentionSequence& sequence) { sequence.kv.tail = nullptr; });
  std::vector<float> qkv = c.q;
  const SplitHeadsArgs narrow{.qkv = qkv.data(),
                              .qkv_stride = 47,
                              .num_heads = 2,
                              .head_dim = 8,
                              .head_factor = nullptr,
                              .sequences = c.sequences};
  EXPECT_THROW(SplitHeads(context, narrow), Error);
}

}  // namespace
}  // namespace nextscale
