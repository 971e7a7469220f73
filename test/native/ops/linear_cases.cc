// Linear layers, with every epilogue, and convolutions.
#include "test/native/ops/op_cases.h"

namespace nextscale::test {

struct LinearData {
  LinearArgs args;
  PackedMatrix packed;
  std::vector<float> a, weights, bias;

  LinearData(Table& table, const LinearShape& shape, DType file, Random& random) {
    args.a_dtype = shape.dtype;
    args.out_dtype = shape.out_dtype;
    args.num_rows = shape.m;
    args.epilogue = shape.epilogue;
    args.a_stride = shape.k + shape.a_pad;
    args.out_stride = shape.n + shape.out_pad;
    a = random.Floats(shape.m * args.a_stride);
    weights = random.Floats(shape.n * shape.k);
    args.a = table.Put(Encode(a, shape.dtype));
    packed = table.Matrix(weights, shape.n, shape.k, file);
    if (shape.bias) {
      bias = random.Floats(shape.n, 3.0f);
      args.bias = table.Put(bias);
    }
  }
  // The address of the packed weights is this object's.
  LinearArgs Args() {
    args.weights = &packed;
    return args;
  }

  double Product(size_t row, size_t column) const {
    double y = bias.empty() ? 0.0 : static_cast<double>(bias[column]);
    for (size_t i = 0; i < packed.k; ++i) {
      y += static_cast<double>(a[row * args.a_stride + i]) * static_cast<double>(weights[column * packed.k + i]);
    }
    return y;
  }
};

static double GeluReference(double y) {
  return 0.5 * y * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (y + 0.044715 * y * y * y)));
}

// kStore and kGelu; and kResidual onto activations (one span from row 0 to row 0, no modulation).
void CheckStore(Backend& backend, const LinearShape& shape, DType file, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  LinearData data(table, shape, file, random);
  LinearArgs args = data.Args();
  Output out(shape.m * args.out_stride, shape.out_dtype);
  std::vector<float> before = random.Floats(shape.m * shape.n);
  Encode(before, shape.out_dtype);
  for (size_t row = 0; row < shape.m; ++row) {
    for (size_t column = 0; column < shape.n; ++column) {
      const size_t at = row * args.out_stride + column;
      double y = data.Product(row, column);
      if (shape.epilogue == Epilogue::kGelu) y = GeluReference(y);
      if (shape.epilogue == Epilogue::kResidual) {
        out.Start(at, before[row * shape.n + column]);
        y += static_cast<double>(before[row * shape.n + column]);
      }
      out.Expect(at, y);
    }
  }
  const RowSpan span{0, 0, shape.m, nullptr};
  if (shape.epilogue == Epilogue::kResidual) args.spans = std::span(&span, 1);
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  backend.Linear(args);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), Tolerance(shape.out_dtype)))
      << "m " << shape.m << " n " << shape.n << " k " << shape.k << " seed " << seed;
}

// kResidual into x. Two sequences whose rows stand in x the other way round, one row apart, with a span of no rows
// between them; the second sequence without a gate for odd seeds.
static void CheckResidual(Backend& backend, LinearShape shape, DType file, uint64_t seed) {
  shape.epilogue = Epilogue::kResidual;
  shape.out_dtype = DType::kF32;
  Random random(seed);
  Table table(backend);
  LinearData data(table, shape, file, random);
  LinearArgs args = data.Args();
  const std::vector<float> modulation = random.Floats(2 * shape.n + 9);
  const float* const there = table.Put(modulation);
  const size_t half = shape.m / 2;
  const std::vector<RowSpan> spans = {{0, shape.m - half + 1, half, there},
                                      {half, 1, 0, there},
                                      {half, 0, shape.m - half, seed % 2 == 0 ? there + shape.n : nullptr}};
  args.spans = spans;
  args.gate_offset = 5;
  Output out((shape.m + 1) * args.out_stride, DType::kF32);
  for (size_t row = 0; row < shape.m; ++row) {
    for (size_t column = 0; column < shape.n; ++column) {
      const float x = random.Uniform();
      const RowSpan& span = spans[row < half ? 0 : 2];
      const size_t at = (span.x_row + row - span.compact_row) * args.out_stride + column;
      double gate = 1.0;
      if (span.modulation != nullptr) {
        gate = static_cast<double>(modulation[static_cast<size_t>(span.modulation - there) + 5 + column]);
      }
      out.Start(at, x);
      out.Expect(at, static_cast<double>(x) + gate * data.Product(row, column));
    }
  }
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  backend.Linear(args);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), 1e-5)) << "seed " << seed;
}

// q, k and v with their norms and factors, k and v into a pool in shuffled order with tails behind it.
void CheckQkv(Backend& backend, const HeadsShape& heads, uint64_t seed) {
  const auto& [m, num_heads, head_dim, k, dtype, kv_dtype, normalised] = heads;
  const size_t width = num_heads * head_dim;
  Random random(seed);
  Table table(backend);
  LinearData data(table, {m, 3 * width, k, dtype, dtype}, dtype, random);
  LinearArgs args = data.Args();
  const std::vector<float> factors = random.Floats(num_heads, 4.0f);
  // Two sequences: the first has two older keys and all its rows in slots, the second all but one of its in its tail.
  const size_t first = m - m / 3, second = m / 3, num_tail = second == 0 ? 0 : second - 1;
  const std::vector<uint32_t> order = random.Order(first + 5);
  Output pool(order.size() * 2 * width, kv_dtype), tail((num_tail + 1) * 2 * width, kv_dtype);
  std::byte* const pool_at = table.Put(pool.bytes());
  std::byte* const tail_at = table.Put(tail.bytes());
  std::vector<AttentionSequence> sequences = {
      {0, first, {kv_dtype, pool_at, std::span(order).first(first + 2), tail_at, 0}}};
  if (second != 0) {
    sequences.push_back(
        {first, second, {kv_dtype, pool_at, std::span(order).subspan(first + 3, 1), tail_at, num_tail}});
  }
  args.out_stride = 3 * width + 8;
  Output out(m * args.out_stride, dtype);
  for (size_t row = 0; row < m; ++row) {
    const bool in_tail = row > first;
    const size_t slot = row < first ? order[row + 2] : row == first ? order[first + 3] : row - first - 1;
    for (size_t part = 0; part < 3; ++part) {
      for (size_t h = 0; h < num_heads; ++h) {
        std::vector<double> y(head_dim);
        double squares = 0.0;
        for (size_t d = 0; d < head_dim; ++d) {
          y[d] = data.Product(row, part * width + h * head_dim + d);
          squares += y[d] * y[d];
        }
        double factor = 1.0;
        if (normalised && part != 2) {
          factor = (part == 0 ? static_cast<double>(factors[h]) : 1.0) / std::max(std::sqrt(squares), 1e-12);
        }
        for (size_t d = 0; d < head_dim; ++d) {
          const size_t column = h * head_dim + d, at = row * args.out_stride + part * width + column;
          if (part == 0) {
            out.Expect(at, y[d] * factor);
          } else {
            out.Ignore(at);
            (in_tail ? tail : pool).Expect(slot * 2 * width + (part - 1) * width + column, y[d] * factor);
          }
        }
      }
    }
  }
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  backend.Qkv(args, {.qkv = to,
                     .dtype = dtype,
                     .qkv_stride = args.out_stride,
                     .num_heads = num_heads,
                     .head_dim = head_dim,
                     .head_factor = normalised ? table.Put(factors) : nullptr,
                     .sequences = sequences});
  const double loss = head_dim == 64 ? 1.0 : 2.0;  // other head sizes may be rounded on their way
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), loss * Tolerance(dtype))) << "q, seed " << seed;
  const double tolerance = loss * (loss == 1.0 ? Tolerance(kv_dtype) : std::max(Tolerance(kv_dtype), Tolerance(dtype)));
  ASSERT_NO_FATAL_FAILURE(pool.Check(table.Take(pool_at, pool), tolerance)) << "pool, seed " << seed;
  ASSERT_NO_FATAL_FAILURE(tail.Check(table.Take(tail_at, tail), tolerance)) << "tail, seed " << seed;
}

// The bytes of a row are the same on every chip and in every batch.
void CheckRowsDoNotDependOnBatch(Bench& bench, DType dtype, uint64_t seed) {
  constexpr size_t kRows = 150;
  Bytes large;
  const bool has_wgmma = bench.has_wgmma;
  for (const auto& [wgmma, chip] : {std::pair{has_wgmma, kFew}, {false, kFew}, {has_wgmma, 6u}, {has_wgmma, kMany}}) {
    bench.has_wgmma = wgmma;
    Table table(bench.At(dtype, chip));
    bench.has_wgmma = has_wgmma;
    Random random(seed);
    LinearData data(table, {kRows, 72, 200, dtype, DType::kF32}, dtype, random);
    LinearArgs args = data.Args();
    const size_t row_bytes = args.out_stride * 4, count = kRows * row_bytes;
    std::byte* const to = table.Put(Bytes(count, std::byte{0xFF}));
    args.out = to;
    table.backend().Linear(args);
    const Bytes found = table.Take(to, count);
    if (large.empty()) large = found;
    ASSERT_EQ(found, large) << chip << " multiprocessors, " << (wgmma ? "wgmma" : "mma");
    for (const auto& [first, rows] : {std::pair{0u, 9u}, {67u, 9u}, {141u, 9u}, {3u, 32u}, {118u, 27u}}) {
      LinearArgs few = args;
      std::byte* const part = table.Put(Bytes(rows * row_bytes, std::byte{0xFF}));
      few.num_rows = rows;
      few.out = part;
      few.a = static_cast<const std::byte*>(args.a) + first * args.a_stride * DTypeBytes(dtype);
      table.backend().Linear(few);
      const Bytes expected(large.begin() + static_cast<ptrdiff_t>(first * row_bytes),
                           large.begin() + static_cast<ptrdiff_t>((first + rows) * row_bytes));
      ASSERT_EQ(table.Take(part, rows * row_bytes), expected) << rows << " rows from " << first;
    }
  }
}

// Shapes in multiples of 8 are what tensor cores take.
void LinearSuite(Bench& bench, size_t num_trials) {
  Random random(1);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const DType dtype = bench.Format(trial);
    const bool pieces = trial % 4 != 3;
    LinearShape shape{random.Index(1, trial % 2 == 0 ? 16 : 150), random.Index(1, 150),
                      pieces ? 8 * random.Index(1, 40) : random.Index(1, 90), dtype,
                      trial % 3 == 0 ? DType::kF32 : dtype};
    shape.bias = trial % 7 != 0;
    shape.a_pad = pieces ? 8 * random.Index(0, 2) : random.Index(0, 3);
    shape.out_pad = random.Index(0, 5);
    shape.epilogue = trial % 6 == 1 ? Epilogue::kResidual : trial % 3 == 1 ? Epilogue::kGelu : Epilogue::kStore;
    Backend& backend = bench.At(dtype, trial / 2 % 3 == 0 ? kFew : trial / 2 % 3 == 1 ? kSome : kMany);
    const DType file = bench.FileFormat(dtype, trial);
    ASSERT_NO_FATAL_FAILURE(CheckStore(backend, shape, file, trial));
    if (shape.epilogue != Epilogue::kResidual) {  // whole tiles of columns, and something behind them
      LinearShape whole = shape;
      whole.n = (shape.n + 63) / 64 * 64;
      whole.out_pad = 8;
      ASSERT_NO_FATAL_FAILURE(CheckStore(backend, whole, file, trial));
    }
    if (trial % 2 == 1) {
      ASSERT_NO_FATAL_FAILURE(CheckResidual(backend, shape, file, trial + 1000));
    }
  }
  // Every epilogue in every tile.
  uint64_t seed = 2000;
  for (const DType dtype : bench.dtypes()) {
    for (const uint32_t chip : {kFew, kSome, kMany}) {
      for (const Epilogue epilogue : {Epilogue::kStore, Epilogue::kGelu, Epilogue::kResidual}) {
        const LinearShape shape{100, 100, 136, dtype, dtype, epilogue};
        ASSERT_NO_FATAL_FAILURE(CheckStore(bench.At(dtype, chip), shape, dtype, ++seed));
      }
      ASSERT_NO_FATAL_FAILURE(CheckResidual(bench.At(dtype, chip), {100, 100, 136, dtype, dtype}, dtype, ++seed));
    }
  }
}

void QkvSuite(Bench& bench) {
  uint64_t seed = 1;
  for (const DType dtype : bench.dtypes()) {
    if (dtype == DType::kF32) {
      for (const DType kv_dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
        ASSERT_NO_FATAL_FAILURE(CheckQkv(bench.At(dtype), {23, 2, 33, 50, dtype, kv_dtype}, ++seed));
      }
      continue;
    }
    for (const DType kv_dtype : {dtype, DType::kF32}) {
      const auto check = [&](uint32_t chip, const HeadsShape& heads) {
        CheckQkv(bench.At(dtype, chip), heads, ++seed);
      };
      ASSERT_NO_FATAL_FAILURE(check(kFew, {11, 2, 64, 72, dtype, kv_dtype}));
      ASSERT_NO_FATAL_FAILURE(check(kFew, {27, 2, 64, 200, dtype, kv_dtype}));
      ASSERT_NO_FATAL_FAILURE(check(kMany, {70, 3, 64, 136, dtype, kv_dtype}));
      ASSERT_NO_FATAL_FAILURE(check(kFew, {131, 1, 64, 72, dtype, kv_dtype, kv_dtype == dtype}));
      ASSERT_NO_FATAL_FAILURE(check(kFew, {9, 3, 64, 40, dtype, kv_dtype, false}));
      ASSERT_NO_FATAL_FAILURE(check(kMany, {19, 3, 40, 40, dtype, kv_dtype}));
    }
  }
}

// ------------------------------------------------------------------ convolution

struct ConvShape {
  ConvKind kind;
  size_t height, width, cin, cout;
  DType dtype;
  bool residual, normalised;
};

static void CheckConv(Bench& bench, const ConvShape& shape, uint32_t chip, uint64_t seed) {
  const auto& [kind, height, width, cin, cout, dtype, residual, normalised] = shape;
  Backend& backend = bench.At(dtype, chip);
  Random random(seed);
  Table table(backend);
  ConvArgs args;
  args.kind = kind;
  args.in_height = height;
  args.in_width = width;
  args.in_dtype = args.out_dtype = dtype;
  args.in_stride = MapStride(cin);
  args.out_stride = args.residual_stride = MapStride(cout);
  const size_t out_height = args.out_height(), out_width = args.out_width(), pixels = out_height * out_width;
  std::vector<float> in = random.Floats(height * width * args.in_stride);  // the padding, too: finite
  std::vector<float> added = random.Floats(pixels * args.out_stride), weights = random.Floats(cout * cin * 9);
  const std::vector<float> bias = random.Floats(cout), gain = random.Floats(args.in_stride, 2.0f),
                           shift = random.Floats(args.in_stride);
  Encode(weights, dtype);
  const Bytes file = Encode(weights, DType::kF32);
  const PackedConv packed =
      backend.PackConv({file.data(), DType::kF32, {cout, cin, 3, 3}}, bias, "a test", ConvUse::kMap);
  args.weights = &packed;
  args.in = table.Put(Encode(in, dtype));
  if (residual) args.residual = table.Put(Encode(added, dtype));
  if (normalised) {
    std::vector<float> padded_gain = gain, padded_shift = shift;
    for (size_t c = cin; c < args.in_stride; ++c) padded_gain[c] = padded_shift[c] = 0.0f;
    args.gain = table.Put(padded_gain);
    args.shift = table.Put(padded_shift);
  }
  const auto input = [&](size_t y, size_t x, size_t c) {
    const double value = static_cast<double>(in[(y * width + x) * args.in_stride + c]);
    if (!normalised) return value;
    const double z = value * static_cast<double>(gain[c]) + static_cast<double>(shift[c]);
    return z / (1.0 + std::exp(-z));
  };
  Output out(pixels * args.out_stride, dtype);
  for (size_t y = 0; y < out_height; ++y) {
    for (size_t x = 0; x < out_width; ++x) {
      for (size_t o = 0; o < args.out_stride; ++o) {
        const size_t at = (y * out_width + x) * args.out_stride + o;
        if (o >= cout) {
          bench.Pad(out, at);
          continue;
        }
        double sum = static_cast<double>(bias[o]) + (residual ? static_cast<double>(added[at]) : 0.0);
        for (int tap = 0; tap < 9; ++tap) {
          int iy = static_cast<int>(y), ix = static_cast<int>(x);
          if (kind == ConvKind::kDown)
            iy = 2 * iy + tap / 3, ix = 2 * ix + tap % 3;
          else
            iy += tap / 3 - 1, ix += tap % 3 - 1;
          if (iy < 0 || ix < 0) continue;
          if (kind == ConvKind::kUp) iy >>= 1, ix >>= 1;
          if (iy >= static_cast<int>(height) || ix >= static_cast<int>(width)) continue;
          for (size_t c = 0; c < cin; ++c) {
            sum += input(static_cast<size_t>(iy), static_cast<size_t>(ix), c) *
                   static_cast<double>(weights[(o * cin + c) * 9 + static_cast<size_t>(tap)]);
          }
        }
        out.Expect(at, sum);
      }
    }
  }
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  args.workspace_floats = backend.ConvWorkspace(args);
  args.workspace = table.Put(std::vector<float>(args.workspace_floats, NAN));
  backend.Conv(args);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), Tolerance(dtype))) << "seed " << seed;
}

void ConvSuite(Bench& bench) {
  uint64_t seed = 1;
  for (const ConvKind kind : {ConvKind::kSame, ConvKind::kDown, ConvKind::kUp}) {
    for (const DType dtype : bench.dtypes()) {
      ASSERT_NO_FATAL_FAILURE(CheckConv(bench, {kind, 7, 6, 24, 40, dtype, true, true}, kMany, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckConv(bench, {kind, 9, 14, 16, 120, dtype, true, false}, kSome, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckConv(bench, {kind, 9, 8, 16, 131, dtype, false, false}, kFew, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckConv(bench, {kind, 5, 7, 3, 9, dtype, false, true}, kFew, ++seed));
    }
  }
}

}  // namespace nextscale::test
