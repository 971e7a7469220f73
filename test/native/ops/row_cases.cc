// Ops on rows of the transformer: modulated norm, embedding, conditions, offsets, losses.
#include "test/native/ops/op_cases.h"

namespace nextscale::test {

// `aligned`: strides, offsets and modulations that wide loads take.
static void CheckModulatedNorm(Backend& backend, DType out_dtype, size_t m, size_t width, bool aligned, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  ModulatedNormArgs args;
  args.out_dtype = out_dtype;
  args.width = width;
  args.x_stride = width + (aligned ? 4 : random.Index(0, 3));
  args.out_stride = width + (aligned ? 4 : random.Index(0, 3));
  args.gain_offset = width;
  args.shift_offset = 2 * width + (aligned ? 0 : 1);
  std::vector<float> x = random.Floats((m + 1) * args.x_stride, 3.0f);
  for (float& value : x) value += 1.5f;
  const std::vector<float> modulation = random.Floats(4 * width + 5);
  const float* const there = table.Put(modulation);
  const size_t half = m / 2, second = aligned ? 4 : 2;
  const std::vector<RowSpan> spans = {{0, m - half + 1, half, there}, {half, 0, m - half, there + second}};
  args.x = table.Put(x);
  args.spans = spans;
  Output out(m * args.out_stride, out_dtype);
  for (size_t row = 0; row < m; ++row) {
    const RowSpan& span = spans[row < half ? 0 : 1];
    const float* in = &x[(span.x_row + row - span.compact_row) * args.x_stride];
    double mean = 0.0, variance = 0.0;
    const auto count = static_cast<double>(width);
    for (size_t c = 0; c < width; ++c) mean += static_cast<double>(in[c]) / count;
    for (size_t c = 0; c < width; ++c) variance += std::pow(static_cast<double>(in[c]) - mean, 2) / count;
    const size_t base = row < half ? 0 : second;
    for (size_t c = 0; c < width; ++c) {
      out.Expect(row * args.out_stride + c, (static_cast<double>(in[c]) - mean) / std::sqrt(variance + 1e-6) *
                                                    (1.0 + static_cast<double>(modulation[base + width + c])) +
                                                static_cast<double>(modulation[base + args.shift_offset + c]));
    }
  }
  std::byte* const to = table.Put(out.bytes());
  args.out = to;
  backend.ModulatedNorm(args);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), Tolerance(out_dtype))) << "width " << width;
}

void NormSuite(Bench& bench) {
  Random random(7);
  for (uint64_t trial = 0; trial < 24; ++trial) {
    const DType dtype = bench.dtypes()[trial % bench.dtypes().size()];
    const size_t m = random.Index(2, 30), width = random.Index(2, 400);
    ASSERT_NO_FATAL_FAILURE(CheckModulatedNorm(bench.At(dtype), dtype, m, width, false, trial));
    ASSERT_NO_FATAL_FAILURE(CheckModulatedNorm(bench.At(dtype), dtype, m, 4 * (width / 4 + 1), true, trial));
  }
  for (const size_t width : {512, 516, 1024, 1280, 1536, 1920, 2304, 2308}) {  // of released models, and the borders
    const DType dtype = bench.dtypes()[width / 4 % bench.dtypes().size()];
    ASSERT_NO_FATAL_FAILURE(CheckModulatedNorm(bench.At(dtype), dtype, 5, width, true, width));
  }
}

static void CheckEmbed(Backend& backend, size_t images, size_t branches, size_t tokens, size_t width, bool labelled,
                       uint64_t seed) {
  Random random(seed);
  Table table(backend);
  constexpr size_t kLabels = 5;
  const size_t stride = width + random.Index(0, 3), rows = images * branches * tokens;
  const std::vector<float> position = random.Floats(tokens * width), start = random.Floats(tokens * width);
  const std::vector<float> classes = random.Floats(kLabels * width);
  std::vector<int32_t> labels(images * branches);
  for (int32_t& label : labels) label = static_cast<int32_t>(random.Index(0, kLabels - 1));
  Output x(rows * stride, DType::kF32);
  const std::vector<float> before = random.Floats(images * tokens * width);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t c = 0; c < width; ++c) {
      const size_t token = row % tokens, first = row % (images * tokens);
      double value = static_cast<double>(position[token * width + c]);
      if (labelled) {
        value += static_cast<double>(start[token * width + c]) +
                 static_cast<double>(classes[static_cast<size_t>(labels[row / tokens]) * width + c]);
      } else {
        value += static_cast<double>(before[first * width + c]);
        if (row == first) x.Start(row * stride + c, before[first * width + c]);
      }
      x.Expect(row * stride + c, value);
    }
  }
  std::byte* const to = table.Put(x.bytes());
  EmbedArgs args;
  args.x = reinterpret_cast<float*>(to);
  args.position = table.Put(position);
  if (labelled) {
    args.starts = table.Put(classes);
    args.start_position = table.Put(start);
    args.conditions = labels;
  }
  args.stride = stride;
  args.width = width;
  args.num_tokens = tokens;
  args.num_images = images;
  args.num_branches = branches;
  backend.Embed(args);
  ASSERT_NO_FATAL_FAILURE(x.Check(table.Take(to, x), 1e-6)) << "seed " << seed;
}

static void CheckCondition(Backend& backend, DType dtype, size_t width, size_t mixed, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  const std::vector<float> classes = random.Floats(4 * width, 3.0f), offset = random.Floats(width);
  std::vector<int32_t> labels = {2, 0, 3};
  std::vector<float> weights;
  for (size_t i = labels.size(); i < 3 * mixed; ++i) labels.push_back(static_cast<int32_t>(random.Index(0, 3)));
  if (mixed > 1) weights = random.Floats(3 * mixed);
  const size_t stride = width + 5;
  Output vector(3 * width, dtype), start(3 * width, DType::kF32), sum(3 * stride, DType::kF32);
  const std::vector<float> in = random.Floats(3 * (width + 1));
  for (size_t i = 0; i < 3; ++i) {
    for (size_t c = 0; c < width; ++c) {
      double x = 0.0;
      for (size_t j = i * mixed; j < (i + 1) * mixed; ++j) {
        const double weight = mixed > 1 ? static_cast<double>(weights[j]) : 1.0;
        x += weight * static_cast<double>(classes[static_cast<size_t>(labels[j]) * width + c]);
      }
      vector.Expect(i * width + c, x / (1.0 + std::exp(-x)));
      start.Expect(i * width + c, x);
      sum.Expect(i * stride + c, static_cast<double>(in[i * (width + 1) + c]) + static_cast<double>(offset[c]));
    }
  }
  std::byte* const vector_at = table.Put(vector.bytes());
  std::byte* const start_at = table.Put(start.bytes());
  std::byte* const sum_at = table.Put(sum.bytes());
  ConditionArgs condition;
  condition.start = reinterpret_cast<float*>(start_at);
  condition.vector = vector_at;
  condition.vector_dtype = dtype;
  condition.width = width;
  condition.embedding = table.Put(classes);
  condition.num_mixed = mixed;
  condition.rows = labels;
  condition.weights = weights;
  backend.Condition(condition);
  AddOffsetArgs add;
  add.out = reinterpret_cast<float*>(sum_at);
  add.out_stride = stride;
  add.in = table.Put(in);
  add.in_stride = width + 1;
  add.offset = table.Put(offset);
  add.num_rows = 3;
  add.width = width;
  backend.AddOffset(add);
  ASSERT_NO_FATAL_FAILURE(vector.Check(table.Take(vector_at, vector), Tolerance(dtype))) << "seed " << seed;
  ASSERT_NO_FATAL_FAILURE(start.Check(table.Take(start_at, start), mixed > 1 ? 1e-6 : 0)) << "seed " << seed;
  ASSERT_NO_FATAL_FAILURE(sum.Check(table.Take(sum_at, sum), 1e-6)) << "seed " << seed;
}

void EmbedSuite(Bench& bench) {
  uint64_t seed = 0;
  Backend& backend = bench.At(bench.dtypes().front());
  for (const bool labelled : {false, true}) {
    for (const size_t branches : {1, 2}) {
      ASSERT_NO_FATAL_FAILURE(CheckEmbed(backend, 3, branches, 5, 33, labelled, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckEmbed(backend, 1, branches, 1, 300, labelled, ++seed));
    }
  }
  for (const DType dtype : bench.dtypes()) {
    for (const size_t mixed : {1, 2, 8}) {
      ASSERT_NO_FATAL_FAILURE(CheckCondition(bench.At(dtype), dtype, 131, mixed, ++seed));
    }
  }
}

static void CheckCrossEntropy(Backend& backend, size_t rows, size_t size, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  const size_t stride = size + random.Index(0, 3);
  const std::vector<float> logits = random.Floats(rows * stride, 8.0f);
  std::vector<int32_t> targets(rows);
  for (int32_t& target : targets) target = static_cast<int32_t>(random.Index(0, size - 1));
  Output losses(rows, DType::kF32);
  for (size_t row = 0; row < rows; ++row) {
    double sum = 0.0;
    for (size_t i = 0; i < size; ++i) sum += std::exp(static_cast<double>(logits[row * stride + i]));
    losses.Expect(row, std::log(sum) - static_cast<double>(logits[row * stride + static_cast<size_t>(targets[row])]));
  }
  std::byte* const to = table.Put(losses.bytes());
  CrossEntropyArgs args;
  args.logits = table.Put(logits);
  args.stride = stride;
  args.num_rows = rows;
  args.codebook_size = size;
  args.targets = table.Put(targets);
  args.losses = reinterpret_cast<float*>(to);
  backend.CrossEntropy(args);
  ASSERT_NO_FATAL_FAILURE(losses.Check(table.Take(to, losses), 1e-5)) << "seed " << seed;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> with_bad = logits;
    with_bad[(rows - 1) * stride + random.Index(0, size - 1)] = bad;
    args.logits = table.Put(with_bad);
    backend.CrossEntropy(args);
    const Bytes found = table.Take(to, losses);
    ASSERT_TRUE(std::isnan(DecodeAt(found.data(), rows - 1, DType::kF32))) << bad;
    for (size_t row = 0; row + 1 < rows; ++row) ASSERT_FALSE(std::isnan(DecodeAt(found.data(), row, DType::kF32)));
  }
}

void LossSuite(Bench& bench) {
  uint64_t seed = 0;
  for (const size_t size : {1, 31, 256, 257, 4096}) {
    ASSERT_NO_FATAL_FAILURE(CheckCrossEntropy(bench.At(DType::kF32), 3, size, ++seed));
  }
}

}  // namespace nextscale::test
