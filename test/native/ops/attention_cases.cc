// Attention over slots of a pool and tails.
#include "test/native/ops/op_cases.h"

namespace nextscale::test {

// Inputs of one attention call; the sequences' slots are shuffled over one pool.
struct AttentionData {
  AttentionArgs args;
  std::vector<AttentionSequence> sequences;
  std::vector<float> q, kv, tail;
  std::vector<uint32_t> order;
  std::vector<size_t> first_slot, first_tail;
  size_t num_rows = 0, width;

  AttentionData(Table& table, const HeadShape& heads, const std::vector<SequenceShape>& shape, Random& random)
      : width(heads.num_heads * heads.head_dim) {
    size_t num_slots = 3, num_tail = 0;
    for (const SequenceShape& s : shape)
      num_slots += s.num_keys - s.tail_rows, num_tail += s.tail_rows, num_rows += s.num_rows;
    order = random.Order(num_slots);
    kv = random.Floats(num_slots * 2 * width);
    tail = random.Floats(num_tail * 2 * width + 16);
    std::byte* const pool_at = table.Put(Encode(kv, heads.kv_dtype));
    std::byte* const tail_at = table.Put(Encode(tail, heads.kv_dtype));
    const size_t row_bytes = 2 * width * DTypeBytes(heads.kv_dtype);
    size_t row = 0, slot = 0, tail_row = 0;
    for (const SequenceShape& s : shape) {
      const size_t cached = s.num_keys - s.tail_rows;
      first_slot.push_back(slot);
      first_tail.push_back(tail_row);
      sequences.push_back({row,
                           s.num_rows,
                           {heads.kv_dtype, pool_at, std::span<const uint32_t>(order).subspan(slot, cached),
                            tail_at + tail_row * row_bytes, s.tail_rows}});
      row += s.num_rows, slot += cached, tail_row += s.tail_rows;
    }
    args.dtype = heads.dtype;
    args.num_heads = heads.num_heads;
    args.head_dim = heads.head_dim;
    args.softmax_factor = 0.7f;
    args.q_stride = args.out_stride = width + heads.pad;
    q = random.Floats(num_rows * args.q_stride, 2.0f);
    args.q = table.Put(Encode(q, heads.dtype));
    args.sequences = sequences;
  }

  // A column of key j of a sequence.
  double KvAt(size_t sequence, size_t j, size_t column) const {
    const size_t cached = sequences[sequence].kv.slots.size();
    const bool in_tail = j >= cached;
    const size_t row = in_tail ? first_tail[sequence] + j - cached : order[first_slot[sequence] + j];
    return static_cast<double>((in_tail ? tail : kv)[row * 2 * width + column]);
  }
};

void CheckAttention(Backend& backend, const HeadShape& heads, const std::vector<SequenceShape>& shape, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  AttentionData data(table, heads, shape, random);
  AttentionArgs& args = data.args;
  Output out(data.num_rows * args.out_stride + 1, heads.dtype);
  for (size_t s = 0; s < shape.size(); ++s) {
    const AttentionSequence& sequence = data.sequences[s];
    for (size_t row = sequence.compact_row; row < sequence.compact_row + sequence.num_rows; ++row) {
      for (size_t h = 0; h < heads.num_heads; ++h) {
        const size_t head = h * heads.head_dim;
        std::vector<double> weights(shape[s].num_keys), expected(heads.head_dim, 0.0);
        double largest = -1e300, sum = 0.0;
        for (size_t j = 0; j < weights.size(); ++j) {
          double score = 0.0;
          for (size_t d = 0; d < heads.head_dim; ++d) {
            score += static_cast<double>(data.q[row * args.q_stride + head + d]) * data.KvAt(s, j, head + d);
          }
          weights[j] = static_cast<double>(args.softmax_factor) * score;
          largest = std::max(largest, weights[j]);
        }
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (size_t j = 0; j < weights.size(); ++j) {
          for (size_t d = 0; d < heads.head_dim; ++d) {
            expected[d] += weights[j] / sum * data.KvAt(s, j, data.width + head + d);
          }
        }
        for (size_t d = 0; d < heads.head_dim; ++d) out.Expect(row * args.out_stride + head + d, expected[d]);
      }
    }
  }
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  backend.Attention(args);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), Tolerance(heads.dtype)))
      << "heads " << heads.num_heads << " of " << heads.head_dim << " seed " << seed;
}

void AttentionSuite(Bench& bench, size_t num_trials) {
  Random random(3);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const DType dtype = bench.Format(trial);
    const size_t limit = trial % 3 == 0 ? 16 : 90;
    std::vector<SequenceShape> shape;
    for (size_t s = random.Index(1, 3); s != 0; --s) {
      const size_t rows = random.Index(s == 1 ? 1 : 0, limit), keys = rows + random.Index(1, 150);
      shape.push_back({rows, keys, trial % 2 == 0 ? rows : 0});
    }
    const bool pieces = trial % 4 != 3;
    const size_t head_dim = trial % 3 == 1 ? 64 : pieces ? 8 * random.Index(1, 16) : random.Index(1, 128);
    const DType kv_dtype = trial % 7 == 6 ? DType::kF32 : bench.FileFormat(dtype, dtype == DType::kF32 ? trial : 0);
    const size_t num_heads = random.Index(1, 3), pad = pieces ? 8 * random.Index(0, 1) : random.Index(0, 3);
    ASSERT_NO_FATAL_FAILURE(CheckAttention(bench.At(dtype), {num_heads, head_dim, dtype, kv_dtype, pad}, shape, trial));
  }
  uint64_t seed = 1000;
  for (const DType dtype : bench.dtypes()) {
    for (const size_t head_dim : {64, 128}) {
      for (const size_t rows : {5, 40}) {
        ASSERT_NO_FATAL_FAILURE(
            CheckAttention(bench.At(dtype), {2, head_dim, dtype, dtype}, {{rows, rows + 70, rows}}, ++seed));
      }
    }
  }
}

// A row alone gives the bytes that it gives in company.
void AttentionRowSuite(Bench& bench) {
  for (const DType dtype : bench.dtypes()) {
    Random random(5);
    Table table(bench.At(dtype));
    AttentionData data(table, {2, 64, dtype, dtype}, {{40, 150, 0}, {5, 77, 5}}, random);
    AttentionArgs args = data.args;
    const size_t row_bytes = args.out_stride * DTypeBytes(dtype), count = 45 * row_bytes;
    std::byte* const to = table.Put(Bytes(count, std::byte{0xFF}));
    args.out = to;
    table.backend().Attention(args);
    const Bytes together = table.Take(to, count);
    std::byte* const alone = table.Put(Bytes(count, std::byte{0xFF}));
    args.out = alone;
    args.sequences = std::span(data.sequences).subspan(1);
    table.backend().Attention(args);
    const Bytes found = table.Take(alone, count);
    EXPECT_EQ(std::memcmp(&found[40 * row_bytes], &together[40 * row_bytes], 5 * row_bytes), 0);
  }
}

// One head as wide as a map, keys in a tail: the tokenizer's attention.
void WideAttentionSuite(Bench& bench) {
  uint64_t seed = 0;
  for (const DType dtype : bench.dtypes()) {
    Backend& backend = bench.At(dtype);
    ASSERT_NO_FATAL_FAILURE(CheckAttention(backend, {1, 136, dtype, dtype, 3}, {{9, 9, 9}}, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckAttention(backend, {1, 520, dtype, dtype, 0}, {{5, 300, 5}, {2, 7, 0}}, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckAttention(backend, {2, 200, dtype, DType::kF32, 1}, {{1, 1, 0}, {0, 3, 0}}, ++seed));
  }
}

}  // namespace nextscale::test
