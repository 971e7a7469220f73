// Parity cases of the CUDA kernels against references in double precision, on random odd shapes, by a Runner over the
// kernels' twins on the CPU (twin_test.cc) or over a device (device_test.cc).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "native/backend/cuda/plan.h"
#include "native/base/half.h"
#include "native/base/rng.h"
#include "test/native/backend/cuda/runner.h"

namespace nextscale::cuda::test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t Bits() {  // SplitMix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  float Uniform() { return static_cast<float>(static_cast<double>(Bits() >> 11) * 0x1p-52 - 1.0); }  // [-1, 1)
  uint32_t Index(uint32_t first, uint32_t last) { return first + static_cast<uint32_t>(Bits() % (last - first + 1)); }
  std::vector<float> Floats(size_t count, float factor = 1.0f) {
    std::vector<float> values(count);
    for (float& value : values) value = factor * Uniform();
    return values;
  }

 private:
  uint64_t state_;
};

using Bytes = std::vector<unsigned char>;

inline float DecodeAt(const unsigned char* bytes, size_t index, DType dtype) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, bytes + index * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes + index * 2, 2);
  return dtype == DType::kBF16 ? FloatFromBF16(half) : FloatFromF16(half);
}

// Values in a format; the values themselves become what the format holds.
inline Bytes Encode(std::vector<float>& values, DType dtype) {
  const size_t size = DTypeBytes(dtype);
  Bytes bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = dtype == DType::kBF16 ? BF16FromFloat(values[i]) : F16FromFloat(values[i]);
    std::memcpy(&bytes[i * size], size == 4 ? static_cast<const void*>(&values[i]) : &half, size);
    values[i] = DecodeAt(bytes.data(), i, dtype);
  }
  return bytes;
}

// Weights [n, k] as the device has them.
inline Bytes EncodeWeights(std::vector<float>& values, uint32_t n, uint32_t k, DType dtype) {
  const Bytes rows = Encode(values, dtype);
  if (dtype == DType::kF32) return rows;
  Bytes tiles(WeightBytes(n, k, dtype), 0);
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t i = 0; i < k; ++i) {
      std::memcpy(tiles.data() + WeightPiece(row, i, k) + i % 8 * 2, rows.data() + (size_t{row} * k + i) * 2, 2);
    }
  }
  return tiles;
}

inline double Tolerance(DType dtype) { return dtype == DType::kF32 ? 1e-5 : dtype == DType::kF16 ? 1e-3 : 8e-3; }

// Numbers that a kernel writes: poisoned at first; each has an expected value or must stay poison.
class Output {
 public:
  Output(size_t count, DType dtype) : dtype_(dtype), bytes_(count * DTypeBytes(dtype), 0xFF), expected_(count, NAN) {}

  const Bytes& bytes() const { return bytes_; }
  void Start(size_t at, float value) { std::memcpy(&bytes_[at * 4], &value, 4); }  // f32 that the kernel changes
  void Expect(size_t at, double value) { expected_[at] = value; }

  // Relative error of all numbers together under the format's (or the given) tolerance, and none far off.
  void Check(const Bytes& found, double tolerance) const {
    double error = 0.0, norm = 0.0, count = 0.0;
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (std::isnan(expected_[i])) {
        const size_t size = DTypeBytes(dtype_);
        ASSERT_EQ(std::memcmp(&found[i * size], &bytes_[i * size], size), 0) << "written where nothing belongs: " << i;
        continue;
      }
      const double difference = static_cast<double>(DecodeAt(found.data(), i, dtype_)) - expected_[i];
      ASSERT_FALSE(std::isnan(difference)) << "not written, or NaN: " << i;
      error += difference * difference;
      norm += expected_[i] * expected_[i];
      ++count;
    }
    if (count == 0.0) return;
    ASSERT_LE(std::sqrt(error), tolerance * std::sqrt(norm)) << "relative error " << std::sqrt(error / norm);
    const double typical = std::sqrt(norm / count);
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (std::isnan(expected_[i])) continue;
      const double found_value = static_cast<double>(DecodeAt(found.data(), i, dtype_));
      ASSERT_NEAR(found_value, expected_[i], 4.0 * tolerance * (typical + std::fabs(expected_[i]))) << "at " << i;
    }
  }

 private:
  DType dtype_;
  Bytes bytes_;
  std::vector<double> expected_;
};

// ------------------------------------------------------------------ linear

struct LinearShape {
  uint32_t m, n, k;
  DType dtype, out_dtype;
  LinearEpilogue epilogue = LinearEpilogue::kStore;
  bool bias = true, residual = false;
  bool padded = false;  // the columns up to out_stride are to become zeros
  uint32_t a_pad = 0, out_pad = 0;
};

struct LinearData {
  LinearArgs args;
  std::vector<float> a, weights, bias;
  Bytes a_bytes, weight_bytes;

  LinearData(const LinearShape& shape, Random& random) {
    args.dtype = shape.dtype;
    args.out_dtype = shape.out_dtype;
    args.num_rows = shape.m;
    args.n = shape.n;
    args.k = shape.k;
    args.epilogue = shape.epilogue;
    args.a_stride = shape.k + shape.a_pad;
    args.out_stride = shape.n + shape.out_pad;
    a = random.Floats(size_t{shape.m} * args.a_stride);
    weights = random.Floats(size_t{shape.n} * shape.k);
    a_bytes = Encode(a, shape.dtype);
    weight_bytes = EncodeWeights(weights, shape.n, shape.k, shape.dtype);
    if (shape.bias) bias = random.Floats(shape.n, 3.0f);
  }

  double Product(size_t row, size_t column) const {
    double y = bias.empty() ? 0.0 : static_cast<double>(bias[column]);
    for (size_t i = 0; i < args.k; ++i) {
      y += static_cast<double>(a[row * args.a_stride + i]) * static_cast<double>(weights[column * args.k + i]);
    }
    return y;
  }

  void Upload(Runner& runner) {
    args.a = runner.Upload(a_bytes);
    args.weights = runner.Upload(weight_bytes);
    args.bias = bias.empty() ? nullptr : runner.Upload(bias);
  }
};

inline double GeluReference(double y) {
  return 0.5 * y * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (y + 0.044715 * y * y * y)));
}

// kStore (with or without a residual map) and kGelu.
inline void CheckStore(Runner& runner, const LinearShape& shape, uint32_t num_multiprocessors, uint64_t seed) {
  Random random(seed);
  LinearData data(shape, random);
  data.Upload(runner);
  LinearArgs& args = data.args;
  args.residual_stride = shape.n + 3;
  std::vector<float> residual = random.Floats(size_t{shape.m} * args.residual_stride);
  const Bytes residual_bytes = Encode(residual, shape.out_dtype);
  if (shape.residual) args.residual = runner.Upload(residual_bytes);
  Output out(size_t{shape.m} * args.out_stride, shape.out_dtype);
  for (size_t row = 0; row < shape.m; ++row) {
    for (size_t column = 0; column < shape.n; ++column) {
      double y = data.Product(row, column);
      if (shape.epilogue == LinearEpilogue::kGelu) y = GeluReference(y);
      if (shape.residual) y += static_cast<double>(residual[row * args.residual_stride + column]);
      out.Expect(row * args.out_stride + column, y);
    }
    for (uint32_t column = shape.n; shape.padded && column < args.out_stride; ++column) {
      out.Expect(row * args.out_stride + column, 0.0);
    }
  }
  if (shape.padded) args.padded_n = args.out_stride;
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  runner.Linear(args, num_multiprocessors);
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(shape.out_dtype)))
      << "m " << shape.m << " n " << shape.n << " k " << shape.k << " seed " << seed;
}

inline void CheckResidual(Runner& runner, LinearShape shape, uint32_t num_multiprocessors, uint64_t seed) {
  shape.epilogue = LinearEpilogue::kResidual;
  shape.out_dtype = DType::kF32;
  Random random(seed);
  LinearData data(shape, random);
  data.Upload(runner);
  LinearArgs& args = data.args;
  // Two sequences whose rows stand in x the other way round, one row apart; the second without a gate for odd seeds.
  const std::vector<float> modulation = random.Floats(2 * shape.n + 9);
  const float* const there = runner.Upload(modulation);
  const uint32_t half = shape.m / 2;
  const std::vector<RowSpan> spans = {{0, shape.m - half + 1, half, there},
                                      {half, 0, shape.m - half, seed % 2 == 0 ? there + shape.n : nullptr}};
  RowTableData rows;
  rows.Build(spans, shape.m);
  args.rows = {runner.Upload(rows.span_of_row), runner.Upload(rows.spans)};
  args.gate_offset = 5;
  Output out(size_t{shape.m + 1} * args.out_stride, DType::kF32);
  for (size_t row = 0; row < shape.m; ++row) {
    for (size_t column = 0; column < shape.n; ++column) {
      const float x = random.Uniform();
      const RowSpan& span = spans[row < half ? 0 : 1];
      const size_t at = (span.x_row + row - span.compact_row) * size_t{args.out_stride} + column;
      double gate = 1.0;
      if (span.modulation != nullptr) {
        gate = static_cast<double>(modulation[static_cast<size_t>(span.modulation - there) + 5 + column]);
      }
      out.Start(at, x);
      out.Expect(at, static_cast<double>(x) + gate * data.Product(row, column));
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  runner.Linear(args, num_multiprocessors);
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), 1e-5)) << "seed " << seed;
}

// A pool of slots in shuffled order with a tail behind it.
struct PoolShape {
  uint32_t num_slots, num_tail, width;
  DType dtype;
};

// The fused qkv epilogue, or (fused = false) a stored qkv and SplitHeads.
inline void CheckQkv(Runner& runner, uint32_t m, uint32_t num_heads, uint32_t head_dim, uint32_t k, DType dtype,
                     DType kv_dtype, bool normalised, bool fused, uint32_t num_multiprocessors, uint64_t seed) {
  const uint32_t width = num_heads * head_dim;
  Random random(seed);
  LinearShape shape{m, 3 * width, k, dtype, dtype};
  LinearData data(shape, random);
  data.Upload(runner);
  LinearArgs& args = data.args;
  args.num_heads = num_heads;
  args.head_dim = head_dim;
  std::vector<float> factors = random.Floats(num_heads, 4.0f);
  const float* const head_factor = normalised ? runner.Upload(factors) : nullptr;
  // Row i goes to slot order[i]; the last third to the tail, backwards.
  const uint32_t num_tail = m / 3, num_slots = m - num_tail + 2;
  std::vector<uint32_t> row_slots(m);
  std::vector<uint32_t> order(num_slots);
  std::iota(order.begin(), order.end(), 0u);
  for (uint32_t i = num_slots; i > 1; --i) std::swap(order[i - 1], order[random.Index(0, i - 1)]);
  for (uint32_t i = 0; i < m; ++i) row_slots[i] = i < m - num_tail ? order[i] : kTailBit | (m - 1 - i);
  Output pool(size_t{num_slots} * 2 * width, kv_dtype), tail(size_t{num_tail + 1} * 2 * width, kv_dtype);
  unsigned char* const pool_at = runner.Upload(pool.bytes());
  unsigned char* const tail_at = runner.Upload(tail.bytes());
  const KvMemory kv{.pool = pool_at, .tail = tail_at, .dtype = kv_dtype};
  args.out_stride = fused ? width + 8 : 3 * width + 8;
  Output out(size_t{m} * args.out_stride, dtype);
  for (size_t row = 0; row < m; ++row) {
    for (uint32_t part = 0; part < 3; ++part) {
      for (uint32_t h = 0; h < num_heads; ++h) {
        std::vector<double> y(head_dim);
        double squares = 0.0;
        for (uint32_t d = 0; d < head_dim; ++d) {
          y[d] = data.Product(row, part * width + h * head_dim + d);
          squares += y[d] * y[d];
        }
        double factor = 1.0;
        if (normalised && part != 2) {
          factor = (part == 0 ? static_cast<double>(factors[h]) : 1.0) / std::max(std::sqrt(squares), 1e-12);
        }
        for (uint32_t d = 0; d < head_dim; ++d) {
          const size_t column = h * head_dim + d;
          if (part == 0) {
            out.Expect(row * args.out_stride + column, y[d] * factor);
          } else {
            const uint32_t slot = row_slots[row];
            Output& memory = (slot & kTailBit) != 0 ? tail : pool;
            memory.Expect(size_t{slot & ~kTailBit} * 2 * width + (part - 1) * width + column, y[d] * factor);
          }
        }
      }
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  const uint32_t* const slots_at = runner.Upload(row_slots);
  if (fused) {
    args.epilogue = LinearEpilogue::kQkv;
    args.head_factor = head_factor;
    args.row_slots = slots_at;
    args.kv = kv;
    runner.Linear(args, num_multiprocessors);
  } else {
    runner.Linear(args, num_multiprocessors);
    const SplitHeadsArgs split{.qkv = to,
                               .head_factor = head_factor,
                               .row_slots = slots_at,
                               .kv = kv,
                               .qkv_stride = args.out_stride,
                               .num_rows = m,
                               .num_heads = num_heads,
                               .head_dim = head_dim,
                               .dtype = dtype};
    runner.Run([&](LaunchList& list) { AddSplitHeads(list, split, "test"); });
  }
  const double loss = fused ? 1.0 : 2.0;  // qkv was rounded on its way
  Bytes found = runner.Download(to, out.bytes().size());
  if (!fused) {  // k and v of the stored matrix are not part of the result
    const size_t size = DTypeBytes(dtype);
    for (size_t row = 0; row < m; ++row) {
      std::fill_n(found.begin() + static_cast<ptrdiff_t>((row * args.out_stride + width) * size), 2 * width * size,
                  0xFF);
    }
  }
  ASSERT_NO_FATAL_FAILURE(out.Check(found, loss * Tolerance(dtype))) << "q, seed " << seed;
  const double tolerance = std::max(loss * Tolerance(kv_dtype), fused ? 0.0 : loss * Tolerance(dtype));
  ASSERT_NO_FATAL_FAILURE(pool.Check(runner.Download(pool_at, pool.bytes().size()), tolerance))
      << "pool, seed " << seed;
  ASSERT_NO_FATAL_FAILURE(tail.Check(runner.Download(tail_at, tail.bytes().size()), tolerance))
      << "tail, seed " << seed;
}

// The bytes of a row are the same in every tile shape and batch.
inline void CheckRowsDoNotDependOnBatch(Runner& runner, DType dtype, uint64_t seed) {
  Random random(seed);
  LinearData data({150, 72, 200, dtype, DType::kF32}, random);
  data.Upload(runner);
  LinearArgs args = data.args;
  const size_t row_bytes = size_t{args.out_stride} * 4, count = 150 * row_bytes;
  unsigned char* const to = runner.Upload(Bytes(count, 0xFF));
  args.out = to;
  runner.Linear(args, 1);  // the large tile
  const Bytes large = runner.Download(to, count);
  const bool has_wgmma = std::exchange(runner.has_wgmma, false);
  runner.Linear(args, 1);
  runner.has_wgmma = has_wgmma;
  ASSERT_EQ(runner.Download(to, count), large)
      << "the large tile by mma; before it by " << (has_wgmma ? "wgmma" : "mma");
  runner.Linear(args, 6);
  ASSERT_EQ(runner.Download(to, count), large) << "small tile";
  runner.Linear(args, ~0u);
  ASSERT_EQ(runner.Download(to, count), large) << "narrow tile";
  for (const auto& [first, rows] : {std::pair{0u, 9u}, {67u, 9u}, {141u, 9u}, {3u, 32u}, {118u, 27u}}) {
    unsigned char* const few = runner.Upload(Bytes(rows * row_bytes, 0xFF));
    args.num_rows = rows;
    args.out = few;
    args.a = static_cast<const unsigned char*>(data.args.a) + size_t{first} * args.a_stride * 2;
    runner.Linear(args, 1);
    const Bytes expected(large.begin() + static_cast<ptrdiff_t>(first * row_bytes),
                         large.begin() + static_cast<ptrdiff_t>((first + rows) * row_bytes));
    ASSERT_EQ(runner.Download(few, rows * row_bytes), expected) << rows << " rows from " << first;
  }
}

// ------------------------------------------------------------------ convolution

inline void CheckConv(Runner& runner, ConvShape shape, uint32_t images, uint32_t height, uint32_t width, uint32_t cin,
                      uint32_t cout, DType dtype, bool residual, uint32_t num_multiprocessors, uint64_t seed) {
  Random random(seed);
  const auto side = [&](uint32_t x) { return shape == ConvShape::kUp ? 2 * x : shape == ConvShape::kDown ? x / 2 : x; };
  const uint32_t out_height = side(height), out_width = side(width), rows = images * out_height * out_width;
  std::vector<float> in = random.Floats(size_t{images} * height * width * cin);
  std::vector<float> weights = random.Floats(size_t{cout} * 9 * cin);
  std::vector<float> added = random.Floats(size_t{rows} * cout);
  const std::vector<float> bias = random.Floats(cout);
  LinearArgs args;
  args.dtype = args.out_dtype = dtype;
  args.is_conv = true;
  args.conv = {shape, images, height, width, cin, out_height, out_width};
  args.num_rows = rows;
  args.n = args.out_stride = args.residual_stride = cout;
  args.k = 9 * cin;
  args.a = runner.Upload(Encode(in, dtype));
  args.weights = runner.Upload(EncodeWeights(weights, cout, 9 * cin, dtype));
  args.bias = runner.Upload(bias);
  const Bytes added_bytes = Encode(added, dtype);
  if (residual) args.residual = runner.Upload(added_bytes);
  Output out(size_t{rows} * cout, dtype);
  for (uint32_t b = 0; b < images; ++b) {
    for (uint32_t y = 0; y < out_height; ++y) {
      for (uint32_t x = 0; x < out_width; ++x) {
        for (uint32_t o = 0; o < cout; ++o) {
          const size_t at = ((size_t{b} * out_height + y) * out_width + x) * cout + o;
          double sum = static_cast<double>(bias[o]) + (residual ? static_cast<double>(added[at]) : 0.0);
          for (int dy = 0; dy < 3; ++dy) {
            for (int dx = 0; dx < 3; ++dx) {
              int iy = static_cast<int>(y), ix = static_cast<int>(x);
              if (shape == ConvShape::kDown)
                iy = 2 * iy + dy, ix = 2 * ix + dx;
              else
                iy += dy - 1, ix += dx - 1;
              if (iy < 0 || ix < 0) continue;
              if (shape == ConvShape::kUp) iy >>= 1, ix >>= 1;
              if (iy >= static_cast<int>(height) || ix >= static_cast<int>(width)) continue;
              for (uint32_t c = 0; c < cin; ++c) {
                const size_t from =
                    ((size_t{b} * height + static_cast<uint32_t>(iy)) * width + static_cast<uint32_t>(ix)) * cin + c;
                sum += static_cast<double>(in[from]) *
                       static_cast<double>(weights[(size_t{o} * 9 + static_cast<size_t>(dy * 3 + dx)) * cin + c]);
              }
            }
          }
          out.Expect(at, sum);
        }
      }
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  runner.Linear(args, num_multiprocessors);
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(dtype))) << "seed " << seed;
}

// ------------------------------------------------------------------ attention

struct SequenceShape {
  uint32_t num_rows, num_keys, tail_rows;
};

// Inputs of one attention call; sequences' slots are shuffled over one pool.
struct AttentionData {
  AttentionArgs args;
  std::vector<float> q, kv, tail;
  AttentionTables tables;
  uint32_t num_rows = 0, width;
  Bytes q_bytes, pool_bytes, tail_bytes;

  AttentionData(uint32_t num_heads, uint32_t head_dim, DType dtype, DType kv_dtype,
                const std::vector<SequenceShape>& shape, uint32_t pad, Random& random)
      : width(num_heads * head_dim) {
    uint32_t num_slots = 3, num_tail = 0;
    for (const SequenceShape& s : shape)
      num_slots += s.num_keys - s.tail_rows, num_tail += s.tail_rows, num_rows += s.num_rows;
    std::vector<uint32_t> order(num_slots);
    std::iota(order.begin(), order.end(), 0u);
    for (uint32_t i = num_slots; i > 1; --i) std::swap(order[i - 1], order[random.Index(0, i - 1)]);
    kv = random.Floats(size_t{num_slots} * 2 * width);
    tail = random.Floats(size_t{num_tail} * 2 * width + 16);
    pool_bytes = Encode(kv, kv_dtype);
    tail_bytes = Encode(tail, kv_dtype);
    const size_t row_bytes = size_t{2} * width * DTypeBytes(kv_dtype);
    auto* const tail_base = reinterpret_cast<std::byte*>(tail_bytes.data());
    std::vector<AttentionSequence> sequences;
    size_t row = 0, slot = 0, tail_row = 0;
    for (const SequenceShape& s : shape) {
      const size_t cached = s.num_keys - s.tail_rows;
      sequences.push_back({row,
                           s.num_rows,
                           {kv_dtype, nullptr, std::span<const uint32_t>(order).subspan(slot, cached),
                            tail_base + tail_row * row_bytes, s.tail_rows}});
      row += s.num_rows, slot += cached, tail_row += s.tail_rows;
    }
    tables.Build(sequences, tail_base, row_bytes, num_rows);
    args.dtype = dtype;
    args.num_heads = num_heads;
    args.head_dim = head_dim;
    args.softmax_factor = 0.7f;
    args.q_stride = width + pad;
    args.out_stride = width + pad;
    args.num_sequences = static_cast<uint32_t>(shape.size());
    args.max_rows = tables.max_rows;
    args.max_keys = tables.max_keys;
    args.kv.dtype = kv_dtype;
    q = random.Floats(size_t{num_rows} * args.q_stride, 2.0f);
    q_bytes = Encode(q, dtype);
  }

  void Upload(Runner& runner) {
    args.q = runner.Upload(q_bytes);
    args.kv.pool = runner.Upload(pool_bytes);
    args.kv.tail = runner.Upload(tail_bytes);
    args.sequences = runner.Upload(tables.sequences);
    args.slots = runner.Upload(tables.slots);
  }

  double KvAt(uint32_t slot, size_t column) const {
    const std::vector<float>& memory = (slot & kTailBit) != 0 ? tail : kv;
    return static_cast<double>(memory[size_t{slot & ~kTailBit} * 2 * width + column]);
  }
};

inline void CheckAttentionCase(Runner& runner, uint32_t num_heads, uint32_t head_dim, DType dtype, DType kv_dtype,
                               const std::vector<SequenceShape>& shape, uint32_t pad, uint64_t seed) {
  Random random(seed);
  AttentionData data(num_heads, head_dim, dtype, kv_dtype, shape, pad, random);
  data.Upload(runner);
  AttentionArgs& args = data.args;
  Output out(size_t{data.num_rows} * args.out_stride + 1, dtype);
  for (const SequenceRows& s : data.tables.sequences) {
    for (uint32_t row = s.compact_row; row < s.compact_row + s.num_rows; ++row) {
      for (uint32_t h = 0; h < num_heads; ++h) {
        std::vector<double> weights(s.num_keys), expected(head_dim, 0.0);
        double largest = -1e300, sum = 0.0;
        for (uint32_t j = 0; j < s.num_keys; ++j) {
          double score = 0.0;
          for (uint32_t d = 0; d < head_dim; ++d) {
            score += static_cast<double>(data.q[size_t{row} * args.q_stride + h * head_dim + d]) *
                     data.KvAt(data.tables.slots[s.first_slot + j], h * head_dim + d);
          }
          weights[j] = static_cast<double>(args.softmax_factor) * score;
          largest = std::max(largest, weights[j]);
        }
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (uint32_t j = 0; j < s.num_keys; ++j) {
          for (uint32_t d = 0; d < head_dim; ++d) {
            expected[d] +=
                weights[j] / sum * data.KvAt(data.tables.slots[s.first_slot + j], data.width + h * head_dim + d);
          }
        }
        for (uint32_t d = 0; d < head_dim; ++d)
          out.Expect(size_t{row} * args.out_stride + h * head_dim + d, expected[d]);
      }
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  runner.Run([&](LaunchList& list) { AddAttention(list, args, "test"); });
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(dtype)))
      << "heads " << num_heads << " of " << head_dim << " seed " << seed;
}

// ------------------------------------------------------------------ norms

inline void CheckModulatedNormCase(Runner& runner, DType dtype, uint32_t m, uint32_t width, uint64_t seed) {
  Random random(seed);
  ModulatedNormArgs args;
  args.out_dtype = dtype;
  args.width = width;
  args.num_rows = m;
  args.x_stride = width + random.Index(0, 3);
  args.out_stride = width + random.Index(0, 3);
  args.gain_offset = width;
  args.shift_offset = 2 * width + 1;
  std::vector<float> x = random.Floats(size_t{m + 1} * args.x_stride, 3.0f);
  for (float& value : x) value += 1.5f;
  const std::vector<float> modulation = random.Floats(4 * width + 3);
  const float* const there = runner.Upload(modulation);
  const uint32_t half = m / 2;
  const std::vector<RowSpan> spans = {{0, m - half + 1, half, there}, {half, 0, m - half, there + 2}};
  RowTableData rows;
  rows.Build(spans, m);
  args.x = runner.Upload(x);
  args.rows = {runner.Upload(rows.span_of_row), runner.Upload(rows.spans)};
  Output out(size_t{m} * args.out_stride, dtype);
  for (size_t row = 0; row < m; ++row) {
    const RowSpan& span = spans[row < half ? 0 : 1];
    const float* in = &x[(span.x_row + row - span.compact_row) * size_t{args.x_stride}];
    double mean = 0.0, variance = 0.0;
    for (uint32_t c = 0; c < width; ++c) mean += static_cast<double>(in[c]) / width;
    for (uint32_t c = 0; c < width; ++c) variance += std::pow(static_cast<double>(in[c]) - mean, 2) / width;
    const size_t base = row < half ? 0 : 2;
    for (uint32_t c = 0; c < width; ++c) {
      out.Expect(row * args.out_stride + c, (static_cast<double>(in[c]) - mean) / std::sqrt(variance + 1e-6) *
                                                    (1.0 + static_cast<double>(modulation[base + width + c])) +
                                                static_cast<double>(modulation[base + 2 * width + 1 + c]));
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  args.out = to;
  runner.Run([&](LaunchList& list) { AddModulatedNorm(list, args, "test"); });
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(dtype))) << "width " << width;
}

// Statistics, then their application with or without SiLU, on a map whose pixels have some padding.
inline void CheckGroupNormCase(Runner& runner, DType dtype, uint32_t pixels, uint32_t groups, uint32_t per_group,
                               bool silu, uint64_t seed) {
  Random random(seed);
  const uint32_t channels = groups * per_group, stride = channels + 3;
  std::vector<float> x = random.Floats(size_t{pixels} * stride, 2.0f);
  for (float& value : x) value += 0.7f;
  const Bytes x_bytes = Encode(x, dtype);
  const std::vector<float> weight = random.Floats(channels), bias = random.Floats(channels);
  GroupNormArgs args;
  args.dtype = dtype;
  args.x = runner.Upload(x_bytes);
  args.x_stride = stride;
  args.num_pixels = pixels;
  args.channels = channels;
  args.padded_channels = stride;
  args.num_groups = groups;
  args.weight = runner.Upload(weight);
  args.bias = runner.Upload(bias);
  args.gain = runner.Upload(std::vector<float>(stride, NAN));
  args.shift = runner.Upload(std::vector<float>(stride, NAN));
  args.moments = runner.Upload(std::vector<Moments>(size_t{GroupNormPieces(pixels)} * groups, Moments{NAN, NAN}));
  Output out(size_t{pixels} * (stride + 2), dtype);
  for (size_t g = 0; g < groups; ++g) {
    const auto at = [&](size_t p, size_t c) { return p * stride + g * per_group + c; };
    double mean = 0.0, variance = 0.0;
    const double count = static_cast<double>(pixels) * per_group;
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) mean += static_cast<double>(x[at(p, c)]) / count;
    }
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) variance += std::pow(static_cast<double>(x[at(p, c)]) - mean, 2) / count;
    }
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) {
        const size_t channel = g * per_group + c;
        const double y = (static_cast<double>(x[at(p, c)]) - mean) / std::sqrt(variance + 1e-6) *
                             static_cast<double>(weight[channel]) +
                         static_cast<double>(bias[channel]);
        out.Expect(p * (stride + 2) + channel, silu ? y / (1.0 + std::exp(-y)) : y);
      }
    }
  }
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = channels; c < stride; ++c) out.Expect(p * (stride + 2) + c, 0.0);
  }
  unsigned char* const to = runner.Upload(out.bytes());
  const NormalizeMapArgs normalize{.out = to,
                                   .x = args.x,
                                   .gain = args.gain,
                                   .shift = args.shift,
                                   .num_pixels = pixels,
                                   .width = stride,
                                   .out_stride = stride + 2,
                                   .x_stride = stride,
                                   .dtype = dtype,
                                   .silu = silu};
  runner.Run([&](LaunchList& list) {
    AddGroupNorm(list, args, "test");
    AddNormalizeMap(list, normalize, "test");
  });
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(dtype))) << "seed " << seed;
}

// ------------------------------------------------------------------ embedding, losses, pictures

inline void CheckEmbedCase(Runner& runner, uint32_t images, uint32_t branches, uint32_t tokens, uint32_t width,
                           bool labelled, uint64_t seed) {
  Random random(seed);
  constexpr uint32_t kLabels = 5;
  const uint32_t stride = width + random.Index(0, 3), rows = images * branches * tokens;
  const std::vector<float> position = random.Floats(size_t{tokens} * width),
                           start = random.Floats(size_t{tokens} * width);
  const std::vector<float> classes = random.Floats(kLabels * width);
  std::vector<int32_t> labels(images * branches);
  for (int32_t& label : labels) label = static_cast<int32_t>(random.Index(0, kLabels - 1));
  Output x(size_t{rows} * stride, DType::kF32);
  std::vector<float> before = random.Floats(size_t{images} * tokens * width);
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t c = 0; c < width; ++c) {
      const size_t token = row % tokens, first = row % (images * tokens);
      double value = static_cast<double>(position[token * width + c]);
      if (labelled) {
        value += static_cast<double>(start[token * width + c]) +
                 static_cast<double>(classes[static_cast<size_t>(labels[row / tokens]) * width + c]);
      } else {
        value += static_cast<double>(before[first * width + c]);
        if (row == first) x.Start(size_t{row} * stride + c, before[first * width + c]);
      }
      x.Expect(size_t{row} * stride + c, value);
    }
  }
  unsigned char* const to = runner.Upload(x.bytes());
  EmbedArgs args{.x = reinterpret_cast<float*>(to), .position = runner.Upload(position)};
  if (labelled) {
    args.class_embedding = runner.Upload(classes);
    args.start = runner.Upload(start);
    args.labels = runner.Upload(labels);
  }
  args.stride = stride;
  args.width = width;
  args.num_tokens = tokens;
  args.num_images = images;
  args.num_branches = branches;
  runner.Run([&](LaunchList& list) { AddEmbed(list, args, "test"); });
  ASSERT_NO_FATAL_FAILURE(x.Check(runner.Download(to, x.bytes().size()), 1e-6)) << "seed " << seed;
}

inline void CheckConditionCase(Runner& runner, DType dtype, uint32_t width, uint64_t seed) {
  Random random(seed);
  const std::vector<float> classes = random.Floats(size_t{4} * width, 3.0f), offset = random.Floats(width);
  const std::vector<int32_t> labels = {2, 0, 3};
  const uint32_t stride = width + 5;
  Output out(3 * size_t{stride}, dtype), sum(3 * size_t{stride}, DType::kF32);
  const std::vector<float> in = random.Floats(3 * size_t{width + 1});
  for (size_t i = 0; i < 3; ++i) {
    for (size_t c = 0; c < width; ++c) {
      const double x = static_cast<double>(classes[static_cast<size_t>(labels[i]) * width + c]);
      out.Expect(i * stride + c, x / (1.0 + std::exp(-x)));
      sum.Expect(i * stride + c, static_cast<double>(in[i * (width + 1) + c]) + static_cast<double>(offset[c]));
    }
  }
  unsigned char* const to = runner.Upload(out.bytes());
  unsigned char* const sum_at = runner.Upload(sum.bytes());
  const LabelConditionArgs condition{.out = to,
                                     .class_embedding = runner.Upload(classes),
                                     .labels = runner.Upload(labels),
                                     .out_stride = stride,
                                     .width = width,
                                     .num_labels = 3,
                                     .out_dtype = dtype};
  const AddOffsetArgs add{.out = reinterpret_cast<float*>(sum_at),
                          .in = runner.Upload(in),
                          .offset = runner.Upload(offset),
                          .out_stride = stride,
                          .in_stride = width + 1,
                          .num_rows = 3,
                          .width = width};
  runner.Run([&](LaunchList& list) {
    AddLabelCondition(list, condition, "test");
    AddAddOffset(list, add, "test");
  });
  ASSERT_NO_FATAL_FAILURE(out.Check(runner.Download(to, out.bytes().size()), Tolerance(dtype))) << "seed " << seed;
  ASSERT_NO_FATAL_FAILURE(sum.Check(runner.Download(sum_at, sum.bytes().size()), 1e-6)) << "seed " << seed;
}

inline void CheckCrossEntropyCase(Runner& runner, uint32_t rows, uint32_t size, uint64_t seed) {
  Random random(seed);
  const uint32_t stride = size + random.Index(0, 3);
  std::vector<float> logits = random.Floats(size_t{rows} * stride, 8.0f);
  std::vector<int32_t> targets(rows);
  for (int32_t& target : targets) target = static_cast<int32_t>(random.Index(0, size - 1));
  Output losses(rows, DType::kF32);
  for (size_t row = 0; row < rows; ++row) {
    double sum = 0.0;
    for (size_t i = 0; i < size; ++i) sum += std::exp(static_cast<double>(logits[row * stride + i]));
    losses.Expect(row, std::log(sum) - static_cast<double>(logits[row * stride + static_cast<size_t>(targets[row])]));
  }
  unsigned char* const to = runner.Upload(losses.bytes());
  CrossEntropyArgs args{.logits = runner.Upload(logits),
                        .targets = runner.Upload(targets),
                        .losses = reinterpret_cast<float*>(to),
                        .num_rows = rows,
                        .stride = stride,
                        .codebook_size = size};
  runner.Run([&](LaunchList& list) { AddCrossEntropy(list, args, "test"); });
  ASSERT_NO_FATAL_FAILURE(losses.Check(runner.Download(to, losses.bytes().size()), 1e-5)) << "seed " << seed;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> with_bad = logits;
    with_bad[(rows - 1) * size_t{stride} + random.Index(0, size - 1)] = bad;
    args.logits = runner.Upload(with_bad);
    runner.Run([&](LaunchList& list) { AddCrossEntropy(list, args, "test"); });
    const Bytes found = runner.Download(to, losses.bytes().size());
    ASSERT_TRUE(std::isnan(DecodeAt(found.data(), rows - 1, DType::kF32))) << bad;
    for (size_t row = 0; row + 1 < rows; ++row) ASSERT_FALSE(std::isnan(DecodeAt(found.data(), row, DType::kF32)));
  }
}

inline void CheckNearestCodeCase(Runner& runner, uint32_t size, uint32_t dim, bool ties, uint64_t seed) {
  Random random(seed);
  const uint32_t rows = 40, stride = dim + random.Index(0, 3);
  const auto numbers = [&](size_t count) {
    std::vector<float> values = random.Floats(count, 2.0f);
    for (float& value : values) value = ties ? std::round(value) : value;
    return values;
  };
  const std::vector<float> codes = numbers(size_t{size} * dim);
  std::vector<float> values = numbers(size_t{rows} * stride);
  values[3 * stride] = NAN;
  int32_t* const to = runner.Upload(std::vector<int32_t>(rows, -7));
  const NearestCodeArgs args{.tokens = to,
                             .rows = runner.Upload(values),
                             .codebook = runner.Upload(codes),
                             .num_rows = rows,
                             .stride = stride,
                             .codebook_size = size,
                             .dim = dim};
  runner.Run([&](LaunchList& list) { AddNearestCode(list, args, "test"); });
  const std::vector<int32_t> found = runner.Download(to, rows);
  for (size_t row = 0; row < rows; ++row) {
    const auto distance = [&](size_t v) {
      double sum = 0.0;
      for (size_t e = 0; e < dim; ++e) {
        sum += std::pow(static_cast<double>(values[row * stride + e]) - static_cast<double>(codes[v * dim + e]), 2);
      }
      return sum;
    };
    ASSERT_GE(found[row], 0);
    ASSERT_LT(found[row], static_cast<int32_t>(size));
    if (row == 3) continue;
    size_t nearest = 0;
    for (size_t v = 1; v < size; ++v) nearest = distance(v) < distance(nearest) ? v : nearest;
    if (ties) {  // small integers: distances are exact
      ASSERT_EQ(static_cast<size_t>(found[row]), nearest) << "row " << row << " seed " << seed;
    } else {
      ASSERT_LE(distance(static_cast<size_t>(found[row])), distance(nearest) * (1.0 + 1e-5)) << "row " << row;
    }
  }
}

inline void CheckImageCase(Runner& runner, DType dtype, uint32_t pixels, uint32_t channels, uint64_t seed) {
  Random random(seed);
  const uint32_t stride = channels + 4;
  const std::vector<float> planar = random.Floats(size_t{channels} * pixels, 1.5f);
  Output map(size_t{pixels} * stride, dtype), back(planar.size(), DType::kF32);
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < stride; ++c) {
      const double value = c < channels ? static_cast<double>(planar[c * pixels + p]) : 0.0;
      map.Expect(p * stride + c, value);
      if (c < channels) back.Expect(c * pixels + p, (std::clamp(value, -1.0, 1.0) + 1.0) / 2.0);
    }
  }
  unsigned char* const map_at = runner.Upload(map.bytes());
  const float* const planar_at = runner.Upload(planar);
  const ImageToMapArgs in{
      .map = map_at, .planar = planar_at, .stride = stride, .num_pixels = pixels, .channels = channels, .dtype = dtype};
  runner.Run([&](LaunchList& list) { AddImageToMap(list, in, "test"); });
  ASSERT_NO_FATAL_FAILURE(map.Check(runner.Download(map_at, map.bytes().size()), Tolerance(dtype))) << "seed " << seed;
  if (dtype != DType::kF32) return;
  unsigned char* const back_at = runner.Upload(back.bytes());
  uint8_t* const bytes_at = runner.Upload(std::vector<uint8_t>(size_t{pixels} * channels, 77));
  MapToImageArgs out{.planar = reinterpret_cast<float*>(back_at),
                     .map = reinterpret_cast<const float*>(map_at),
                     .stride = stride,
                     .num_pixels = pixels,
                     .channels = channels};
  runner.Run([&](LaunchList& list) { AddMapToImage(list, out, "test"); });
  const Bytes found = runner.Download(back_at, back.bytes().size());
  ASSERT_NO_FATAL_FAILURE(back.Check(found, 1e-6));
  out.planar = nullptr;
  out.bytes = bytes_at;
  runner.Run([&](LaunchList& list) { AddMapToImage(list, out, "test"); });
  const std::vector<uint8_t> bytes = runner.Download(bytes_at, size_t{pixels} * channels);
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < channels; ++c) {
      const float value = DecodeAt(found.data(), c * pixels + p, DType::kF32);
      ASSERT_EQ(bytes[p * channels + c], static_cast<uint8_t>(value * 255.0f + 0.5f));
    }
  }
}

// ------------------------------------------------------------------ sampling

// The distribution that one row is drawn from, by sorting (reference: sample_with_top_k_top_p_).
inline std::vector<double> Distribution(std::vector<float> logits, size_t top_k, double top_p) {
  const size_t count = logits.size();
  if (top_k != 0) {
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<float>());
    for (float& logit : logits) logit = logit < sorted[top_k - 1] ? -INFINITY : logit;
  }
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights(count);
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i)
    sum += weights[i] = std::exp(static_cast<double>(logits[i]) - static_cast<double>(largest));
  if (top_p > 0.0 && top_p < 1.0) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] < logits[b]; });
    double below = 0.0;
    for (size_t i = 0; i + 1 < count; ++i) {
      below += weights[order[i]];
      if (below / sum > 1.0 - top_p) break;
      weights[order[i]] = 0.0;
    }
  }
  sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Every token is the inverse of the cumulative distribution at its uniform number; a neighbour is right only when the
// number lies within rounding of the border between the two.
inline void CheckSampleCase(Runner& runner, uint32_t num_tokens, uint32_t codebook_size, uint32_t top_k, float top_p,
                            bool guided, bool ties, uint64_t seed) {
  Random random(seed);
  const uint32_t stride = codebook_size + 3;
  constexpr uint32_t kImages = 2;
  std::vector<std::vector<float>> conds, unconds;
  std::vector<SampleImage> images(kImages);
  std::vector<float*> logits_at;
  for (SampleImage& image : images) {
    std::vector<float> cond = random.Floats(size_t{num_tokens} * stride, 6.0f);
    std::vector<float> uncond = random.Floats(size_t{num_tokens} * stride, ties ? 0.0f : 4.0f);
    if (ties) {
      for (float& logit : cond) logit = std::round(logit) / 2.0f;
    }
    image.tokens = runner.Upload(std::vector<int32_t>(num_tokens, -1));
    image.cond = runner.Upload(cond);
    image.uncond = guided ? runner.Upload(uncond) : nullptr;
    image.logits_out = runner.Upload(std::vector<float>(size_t{num_tokens} * codebook_size, NAN));
    image.seed = random.Bits();
    image.image = random.Bits();
    image.guidance = guided ? 1.25f : 0.0f;
    image.top_p = top_p;
    image.top_k = top_k;
    image.scale_index = random.Index(0, 9);
    conds.push_back(cond);
    unconds.push_back(uncond);
  }
  SampleArgs args;
  args.images = runner.Upload(images);
  args.num_images = kImages;
  args.num_tokens = num_tokens;
  args.codebook_size = codebook_size;
  args.stride = stride;
  runner.Run([&](LaunchList& list) { AddSample(list, args, "test"); });
  for (size_t b = 0; b < kImages; ++b) {
    const std::vector<int32_t> tokens = runner.Download(images[b].tokens, num_tokens);
    const std::vector<float> logits = runner.Download(images[b].logits_out, size_t{num_tokens} * codebook_size);
    for (uint32_t t = 0; t < num_tokens; ++t) {
      const std::vector<float> row(&logits[size_t{t} * codebook_size],
                                   &logits[size_t{t} * codebook_size] + codebook_size);
      for (size_t i = 0; i < codebook_size; ++i) {
        const volatile float left = 2.25f * conds[b][t * stride + i], right = 1.25f * unconds[b][t * stride + i];
        ASSERT_EQ(row[i], guided ? left - right : conds[b][t * stride + i]);
      }
      ASSERT_GE(tokens[t], 0);
      ASSERT_LT(tokens[t], static_cast<int32_t>(codebook_size));
      if (top_k == 1) {
        ASSERT_EQ(tokens[t], std::max_element(row.begin(), row.end()) - row.begin());
        continue;
      }
      const std::vector<double> weights = Distribution(row, top_k, static_cast<double>(top_p));
      const double u = UniformDraw(images[b].seed, images[b].image, images[b].scale_index, t);
      const auto token = static_cast<size_t>(tokens[t]);
      const double below = std::accumulate(weights.begin(), weights.begin() + tokens[t], 0.0);
      ASSERT_GT(weights[token], 0.0) << "a token that was removed; top_k " << top_k << " top_p " << top_p;
      ASSERT_GE(u, below - 1e-6) << "top_k " << top_k << " top_p " << top_p << " seed " << seed;
      ASSERT_LE(u, below + weights[token] + 1e-6) << "top_k " << top_k << " top_p " << top_p << " seed " << seed;
    }
  }
}

inline void CheckNotFinite(Runner& runner, float value) {
  std::vector<float> logits(3 * 70, 0.5f);
  logits[70 + 69] = value;
  std::vector<SampleImage> images(1);
  images[0].tokens = runner.Upload(std::vector<int32_t>(3, 7));
  images[0].cond = runner.Upload(logits);
  const SampleArgs args{
      .images = runner.Upload(images), .num_images = 1, .num_tokens = 3, .codebook_size = 70, .stride = 70};
  runner.Run([&](LaunchList& list) { AddSample(list, args, "test"); });
  const std::vector<int32_t> tokens = runner.Download(images[0].tokens, 3);
  EXPECT_GE(tokens[0], 0);
  EXPECT_EQ(tokens[1], -1);
  EXPECT_GE(tokens[2], 0);
}

// ------------------------------------------------------------------ latent

inline void CheckLatent(Runner& runner, uint32_t images, uint32_t in_side, uint32_t side, uint32_t channels, float mix,
                        uint64_t seed) {
  Random random(seed);
  constexpr uint32_t kCodes = 37;
  const std::vector<float> codebook = random.Floats(size_t{kCodes} * channels);
  std::vector<int32_t> tokens(size_t{images} * in_side * in_side);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Index(0, kCodes - 1));
  const size_t count = size_t{images} * side * side * channels;
  const std::vector<int32_t> expected_tokens = tokens;
  for (int32_t& token : tokens) token = token == 0 ? -1 : token;  // counts as 0
  // Bicubic upsampling, directly from the kernel's definition.
  const auto cubic = [](double d) {
    d = std::fabs(d);
    const double a = -0.75;
    return d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0.0;
  };
  Output h(count, DType::kF32);
  std::vector<double> expected(count);
  for (size_t b = 0; b < images; ++b) {
    for (uint32_t y = 0; y < side; ++y) {
      for (uint32_t x = 0; x < side; ++x) {
        const double fy = (y + 0.5) * in_side / side - 0.5, fx = (x + 0.5) * in_side / side - 0.5;
        for (uint32_t c = 0; c < channels; ++c) {
          double sum = 0.0;
          for (int i = static_cast<int>(std::floor(fy)) - 1; i <= std::floor(fy) + 2; ++i) {
            for (int j = static_cast<int>(std::floor(fx)) - 1; j <= std::floor(fx) + 2; ++j) {
              const int last = static_cast<int>(in_side) - 1;
              const size_t at = b * in_side * in_side + static_cast<size_t>(std::clamp(i, 0, last)) * in_side +
                                static_cast<size_t>(std::clamp(j, 0, last));
              sum += cubic(fy - i) * cubic(fx - j) *
                     static_cast<double>(codebook[static_cast<size_t>(expected_tokens[at]) * channels + c]);
            }
          }
          const size_t at = ((b * side + y) * side + x) * channels + c;
          expected[at] = sum;
          h.Expect(at, sum);
        }
      }
    }
  }
  unsigned char* const h_at = runner.Upload(h.bytes());
  const GatherBicubicArgs gather{
      reinterpret_cast<float*>(h_at), runner.Upload(tokens), runner.Upload(codebook), images, in_side, side, channels};
  runner.Run([&](LaunchList& list) { AddGatherBicubic(list, gather, "test"); });
  ASSERT_NO_FATAL_FAILURE(h.Check(runner.Download(h_at, h.bytes().size()), 1e-5)) << "bicubic, seed " << seed;

  // f_hat += sign ((1 − mix) h + mix conv(h))
  const float sign = seed % 3 == 0 ? -1.0f : 1.0f;
  const std::vector<float> weights = random.Floats(size_t{channels} * 9 * channels), bias = random.Floats(channels);
  const std::vector<float> before = random.Floats(count);
  Output f_hat(count, DType::kF32);
  for (size_t b = 0; b < images; ++b) {
    for (int y = 0; y < static_cast<int>(side); ++y) {
      for (int x = 0; x < static_cast<int>(side); ++x) {
        const auto at = [&](int i, int j) {
          return ((b * side + static_cast<size_t>(i)) * side + static_cast<size_t>(j)) * channels;
        };
        for (uint32_t c = 0; c < channels; ++c) {
          double sum = static_cast<double>(bias[c]);
          for (int i = std::max(y - 1, 0); i <= std::min(y + 1, static_cast<int>(side) - 1); ++i) {
            for (int j = std::max(x - 1, 0); j <= std::min(x + 1, static_cast<int>(side) - 1); ++j) {
              const size_t tap = static_cast<size_t>((i - y + 1) * 3 + j - x + 1);
              for (uint32_t e = 0; e < channels; ++e) {
                sum += expected[at(i, j) + e] * static_cast<double>(weights[(size_t{c} * 9 + tap) * channels + e]);
              }
            }
          }
          const double r = static_cast<double>(mix), mixed = (1.0 - r) * expected[at(y, x) + c] + r * sum;
          f_hat.Start(at(y, x) + c, before[at(y, x) + c]);
          f_hat.Expect(at(y, x) + c, static_cast<double>(before[at(y, x) + c]) + static_cast<double>(sign) * mixed);
        }
      }
    }
  }
  unsigned char* const f_at = runner.Upload(f_hat.bytes());
  const ResidualConvArgs conv{reinterpret_cast<float*>(f_at),
                              reinterpret_cast<const float*>(h_at),
                              runner.Upload(weights),
                              runner.Upload(bias),
                              images,
                              side,
                              channels,
                              mix,
                              sign};
  runner.Run([&](LaunchList& list) { AddResidualConv(list, conv, "test"); });
  const Bytes f_found = runner.Download(f_at, f_hat.bytes().size());
  ASSERT_NO_FATAL_FAILURE(f_hat.Check(f_found, 1e-5)) << "residual conv, seed " << seed;

  // Area average back to in_side.
  const DType dtype = seed % 2 == 0 ? DType::kF32 : DType::kBF16;
  const uint32_t out_stride = channels + 2;
  Output area(size_t{images} * in_side * in_side * out_stride, dtype);
  for (size_t b = 0; b < images; ++b) {
    for (uint32_t y = 0; y < in_side; ++y) {
      for (uint32_t x = 0; x < in_side; ++x) {
        for (uint32_t c = 0; c < channels; ++c) {
          double sum = 0.0, cells = 0.0;
          for (uint32_t i = 0; i < side; ++i) {
            for (uint32_t j = 0; j < side; ++j) {
              // Input pixel i belongs to the cell when the intervals [i, i+1) and [y, y+1) · side / in_side meet.
              if ((i + 1) * in_side <= y * side || i * in_side >= (y + 1) * side) continue;
              if ((j + 1) * in_side <= x * side || j * in_side >= (x + 1) * side) continue;
              sum += static_cast<double>(
                  DecodeAt(f_found.data(), ((b * side + i) * side + j) * channels + c, DType::kF32));
              ++cells;
            }
          }
          area.Expect((b * in_side * in_side + y * in_side + x) * out_stride + c, sum / cells);
        }
        for (uint32_t c = channels; c < out_stride; ++c) {
          area.Expect((b * in_side * in_side + y * in_side + x) * out_stride + c, 0.0);
        }
      }
    }
  }
  unsigned char* const area_at = runner.Upload(area.bytes());
  const AreaDownArgs down{.out = area_at,
                          .in = reinterpret_cast<const float*>(f_at),
                          .num_images = images,
                          .in_side = side,
                          .out_side = in_side,
                          .channels = channels,
                          .out_stride = out_stride,
                          .in_stride = channels,
                          .out_dtype = dtype};
  runner.Run([&](LaunchList& list) { AddAreaDown(list, down, "test"); });
  ASSERT_NO_FATAL_FAILURE(area.Check(runner.Download(area_at, area.bytes().size()), Tolerance(dtype)))
      << "seed " << seed;
}

}  // namespace nextscale::cuda::test
