// The tokenizer's ops: group norm, codes into the latent, area averages, nearest code, pictures.
#include <algorithm>

#include "test/native/ops/op_cases.h"

namespace nextscale::test {

// Statistics, then their application.
static void CheckGroupNorm(Bench& bench, DType dtype, size_t pixels, size_t groups, size_t per_group, uint64_t seed) {
  Backend& backend = bench.At(dtype);
  Random random(seed);
  Table table(backend);
  const size_t channels = groups * per_group, stride = MapStride(channels);
  std::vector<float> x = random.Floats(pixels * stride, 2.0f);
  for (float& value : x) value += 0.7f;
  const std::vector<float> weight = random.Floats(channels), bias = random.Floats(channels);
  GroupNormArgs args;
  args.gain = table.Put(std::vector<float>(stride, NAN));
  args.shift = table.Put(std::vector<float>(stride, NAN));
  const std::byte* const x_at = table.Put(Encode(x, dtype));
  args.x = x_at;
  args.dtype = dtype;
  args.x_stride = stride;
  args.num_pixels = pixels;
  args.channels = channels;
  args.num_groups = groups;
  args.weight = table.Put(weight);
  args.bias = table.Put(bias);
  args.workspace = table.Put(std::vector<double>(backend.GroupNormWorkspace(pixels, groups), NAN));
  Output out(pixels * stride, dtype);
  for (size_t g = 0; g < groups; ++g) {
    const auto at = [&](size_t p, size_t c) { return p * stride + g * per_group + c; };
    double mean = 0.0, variance = 0.0;
    const auto count = static_cast<double>(pixels * per_group);
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) mean += static_cast<double>(x[at(p, c)]) / count;
    }
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) variance += std::pow(static_cast<double>(x[at(p, c)]) - mean, 2) / count;
    }
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < per_group; ++c) {
        const size_t channel = g * per_group + c;
        out.Expect(at(p, c), (static_cast<double>(x[at(p, c)]) - mean) / std::sqrt(variance + 1e-6) *
                                     static_cast<double>(weight[channel]) +
                                 static_cast<double>(bias[channel]));
      }
    }
  }
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = channels; c < stride; ++c) bench.Pad(out, p * stride + c);
  }
  std::byte* const to = table.Put(out.bytes());
  backend.GroupNorm(args);
  NormalizeMapArgs normalize;
  normalize.out = to;
  normalize.dtype = dtype;
  normalize.out_stride = normalize.x_stride = stride;
  normalize.x = x_at;
  normalize.num_pixels = pixels;
  normalize.channels = channels;
  normalize.gain = args.gain;
  normalize.shift = args.shift;
  backend.NormalizeMap(normalize);
  ASSERT_NO_FATAL_FAILURE(out.Check(table.Take(to, out), Tolerance(dtype))) << "seed " << seed;
  // The padding of the statistics is zeros everywhere.
  for (const float* const values : {args.gain, args.shift}) {
    const std::vector<float> found = table.Take(values, stride);
    for (size_t c = channels; c < stride; ++c) ASSERT_EQ(found[c], 0.0f);
  }
}

void GroupNormSuite(Bench& bench) {
  Random random(7);
  for (uint64_t trial = 0; trial < 24; ++trial) {
    const DType dtype = bench.dtypes()[trial % bench.dtypes().size()];
    const size_t pixels = random.Index(1, 200), groups = random.Index(1, 12), per_group = random.Index(2, 6);
    ASSERT_NO_FATAL_FAILURE(CheckGroupNorm(bench, dtype, pixels, groups, per_group, trial));
  }
}

struct LatentShape {
  size_t images, in_side, side, channels;
  float mix;
};

// Codes upsampled, through their residual convolution, into f; then f averaged down again.
static void CheckLatent(Bench& bench, DType dtype, const LatentShape& shape, uint64_t seed) {
  const auto& [images, in_side, side, channels, mix] = shape;
  Backend& backend = bench.At(dtype);
  Random random(seed);
  Table table(backend);
  constexpr size_t kCodes = 37;
  const std::vector<float> codes = random.Floats(kCodes * channels);
  const Codebook codebook = backend.MakeCodebook(codes, kCodes, channels);
  std::vector<int32_t> tokens(images * in_side * in_side);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Index(0, kCodes - 1));
  const std::vector<int32_t> expected_tokens = tokens;
  for (int32_t& token : tokens) token = token == 0 ? -1 : token;  // counts as 0
  const size_t count = images * side * side * channels;
  // Bicubic upsampling, directly from the kernel's definition.
  const auto cubic = [](double d) {
    d = std::fabs(d);
    const double a = -0.75;
    return d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0.0;
  };
  Output h(count, DType::kF32);
  std::vector<double> expected(count);
  for (size_t b = 0; b < images; ++b) {
    for (size_t y = 0; y < side; ++y) {
      for (size_t x = 0; x < side; ++x) {
        const double ratio = static_cast<double>(in_side) / static_cast<double>(side);
        const double fy = (static_cast<double>(y) + 0.5) * ratio - 0.5,
                     fx = (static_cast<double>(x) + 0.5) * ratio - 0.5;
        for (size_t c = 0; c < channels; ++c) {
          double sum = 0.0;
          for (int i = static_cast<int>(std::floor(fy)) - 1; i <= std::floor(fy) + 2; ++i) {
            for (int j = static_cast<int>(std::floor(fx)) - 1; j <= std::floor(fx) + 2; ++j) {
              const int last = static_cast<int>(in_side) - 1;
              const size_t at = b * in_side * in_side + static_cast<size_t>(std::clamp(i, 0, last)) * in_side +
                                static_cast<size_t>(std::clamp(j, 0, last));
              sum += cubic(fy - i) * cubic(fx - j) *
                     static_cast<double>(codes[static_cast<size_t>(expected_tokens[at]) * channels + c]);
            }
          }
          const size_t at = ((b * side + y) * side + x) * channels + c;
          expected[at] = sum;
          h.Start(at, 0.0f);
          h.Expect(at, sum);
        }
      }
    }
  }
  std::byte* const h_at = table.Put(h.bytes());
  AddCodesArgs args;
  args.f = reinterpret_cast<float*>(h_at);
  args.tokens = table.Put(tokens);
  args.codebook = &codebook;
  args.num_images = images;
  args.in_side = in_side;
  args.side = side;
  args.workspace = table.Put(std::vector<float>(backend.AddCodesWorkspace(args), NAN));
  backend.AddCodes(args);
  ASSERT_NO_FATAL_FAILURE(h.Check(table.Take(h_at, h), 1e-5)) << "bicubic, seed " << seed;

  // f += sign ((1 − mix) h + mix conv(h))
  args.sign = seed % 3 == 0 ? -1.0f : 1.0f;
  args.mix = mix;
  const std::vector<float> weights = random.Floats(channels * channels * 9), bias = random.Floats(channels);
  const std::vector<float> before = random.Floats(count);
  const TensorView view{reinterpret_cast<const std::byte*>(weights.data()), DType::kF32, {channels, channels, 3, 3}};
  const PackedConv packed = backend.PackConv(view, bias, "a test", ConvUse::kLatent);
  args.residual_conv = &packed;
  Output f(count, DType::kF32);
  for (size_t b = 0; b < images; ++b) {
    for (size_t y = 0; y < side; ++y) {
      for (size_t x = 0; x < side; ++x) {
        const auto at = [&](size_t i, size_t j) { return ((b * side + i) * side + j) * channels; };
        for (size_t c = 0; c < channels; ++c) {
          double sum = static_cast<double>(bias[c]);
          for (size_t tap = 0; tap < 9; ++tap) {
            const size_t i = y + tap / 3, j = x + tap % 3;  // plus 1
            if (i == 0 || j == 0 || i > side || j > side) continue;
            for (size_t e = 0; e < channels; ++e) {
              sum += expected[at(i - 1, j - 1) + e] * static_cast<double>(weights[(c * channels + e) * 9 + tap]);
            }
          }
          const double r = static_cast<double>(mix), mixed = (1.0 - r) * expected[at(y, x) + c] + r * sum;
          f.Start(at(y, x) + c, before[at(y, x) + c]);
          f.Expect(at(y, x) + c, static_cast<double>(before[at(y, x) + c]) + static_cast<double>(args.sign) * mixed);
        }
      }
    }
  }
  std::byte* const f_at = table.Put(f.bytes());
  args.f = reinterpret_cast<float*>(f_at);
  args.workspace = table.Put(std::vector<float>(backend.AddCodesWorkspace(args), NAN));
  backend.AddCodes(args);
  const Bytes f_found = table.Take(f_at, f);
  ASSERT_NO_FATAL_FAILURE(f.Check(f_found, 1e-5)) << "residual conv, seed " << seed;

  const size_t out_stride = channels + 2;
  Output area(images * in_side * in_side * out_stride, dtype);
  for (size_t b = 0; b < images; ++b) {
    for (size_t y = 0; y < in_side; ++y) {
      for (size_t x = 0; x < in_side; ++x) {
        const size_t at = (b * in_side * in_side + y * in_side + x) * out_stride;
        for (size_t c = 0; c < channels; ++c) {
          double sum = 0.0, cells = 0.0;
          for (size_t i = 0; i < side; ++i) {
            for (size_t j = 0; j < side; ++j) {
              // Input pixel i belongs to the cell when the intervals [i, i + 1) and [y, y + 1) · side / in_side meet.
              if ((i + 1) * in_side <= y * side || i * in_side >= (y + 1) * side) continue;
              if ((j + 1) * in_side <= x * side || j * in_side >= (x + 1) * side) continue;
              sum += static_cast<double>(
                  DecodeAt(f_found.data(), ((b * side + i) * side + j) * channels + c, DType::kF32));
              ++cells;
            }
          }
          area.Expect(at + c, sum / cells);
        }
        for (size_t c = channels; c < out_stride; ++c) bench.Pad(area, at + c);
      }
    }
  }
  std::byte* const area_at = table.Put(area.bytes());
  AreaDownArgs down;
  down.out = area_at;
  down.out_dtype = dtype;
  down.out_stride = out_stride;
  down.out_side = in_side;
  down.in = args.f;
  down.in_stride = channels;
  down.in_side = side;
  down.channels = channels;
  down.num_images = images;
  backend.AreaDown(down);
  ASSERT_NO_FATAL_FAILURE(area.Check(table.Take(area_at, area), Tolerance(dtype))) << "seed " << seed;
}

void LatentSuite(Bench& bench) {
  uint64_t seed = 0;
  for (const size_t side : {1, 2, 3, 5, 8, 9}) {
    const DType dtype = bench.dtypes()[side % bench.dtypes().size()];
    ASSERT_NO_FATAL_FAILURE(CheckLatent(bench, dtype, {2, side, 9, 5, 0.5f}, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckLatent(bench, DType::kF32, {1, side, 9, 7, 0.0f}, ++seed));
  }
}

static void CheckNearestCode(Backend& backend, size_t size, size_t dim, bool ties, uint64_t seed) {
  Random random(seed);
  Table table(backend);
  const size_t rows = 40, stride = dim + random.Index(0, 3);
  const auto numbers = [&](size_t count) {
    std::vector<float> values = random.Floats(count, 2.0f);
    for (float& value : values) value = ties ? std::round(value) : value;
    return values;
  };
  const std::vector<float> codes = numbers(size * dim);
  const Codebook codebook = backend.MakeCodebook(codes, size, dim);
  std::vector<float> values = numbers(rows * stride);
  values[3 * stride] = NAN;
  NearestCodeArgs args;
  args.tokens = table.Put(std::vector<int32_t>(rows, -7));
  args.rows = table.Put(values);
  args.stride = stride;
  args.num_rows = rows;
  args.codebook = &codebook;
  backend.NearestCode(args);
  const std::vector<int32_t> found = table.Take(args.tokens, rows);
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

static void CheckImage(Bench& bench, DType dtype, size_t pixels, size_t channels, uint64_t seed) {
  Backend& backend = bench.At(dtype);
  Random random(seed);
  Table table(backend);
  const size_t stride = MapStride(channels);
  const std::vector<float> planar = random.Floats(channels * pixels, 1.5f);
  Output map(pixels * stride, dtype), back(planar.size(), DType::kF32);
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < stride; ++c) {
      if (c >= channels) {
        bench.Pad(map, p * stride + c);
        continue;
      }
      const double value = static_cast<double>(planar[c * pixels + p]);
      map.Expect(p * stride + c, value);
      back.Expect(c * pixels + p, (std::clamp(value, -1.0, 1.0) + 1.0) / 2.0);
    }
  }
  std::byte* const map_at = table.Put(map.bytes());
  ImageToMapArgs in;
  in.map = map_at;
  in.dtype = dtype;
  in.stride = stride;
  in.planar = table.Put(planar);
  in.num_pixels = pixels;
  in.channels = channels;
  backend.ImageToMap(in);
  ASSERT_NO_FATAL_FAILURE(map.Check(table.Take(map_at, map), Tolerance(dtype))) << "seed " << seed;
  if (dtype != DType::kF32) return;
  std::byte* const back_at = table.Put(back.bytes());
  MapToImageArgs out;
  out.planar = reinterpret_cast<float*>(back_at);
  out.map = reinterpret_cast<const float*>(map_at);
  out.stride = stride;
  out.num_pixels = pixels;
  out.channels = channels;
  backend.MapToImage(out);
  const Bytes found = table.Take(back_at, back);
  ASSERT_NO_FATAL_FAILURE(back.Check(found, 1e-6));
  out.planar = nullptr;
  out.bytes = table.Put(std::vector<uint8_t>(pixels * channels, 77));
  backend.MapToImage(out);
  const std::vector<uint8_t> bytes = table.Take(out.bytes, pixels * channels);
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < channels; ++c) {
      const float value = DecodeAt(found.data(), c * pixels + p, DType::kF32);
      ASSERT_EQ(bytes[p * channels + c], static_cast<uint8_t>(value * 255.0f + 0.5f));
    }
  }
}

void PictureSuite(Bench& bench) {
  uint64_t seed = 0;
  for (const bool ties : {false, true}) {
    for (const size_t size : {1, 30, 32, 259}) {
      ASSERT_NO_FATAL_FAILURE(CheckNearestCode(bench.At(DType::kF32), size, ties ? 2 : 9, ties, ++seed));
    }
  }
  for (const DType dtype : bench.dtypes()) ASSERT_NO_FATAL_FAILURE(CheckImage(bench, dtype, 77, 3, ++seed));
}

}  // namespace nextscale::test
