#include "native/backend/cuda/host/self_check.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "native/base/error.h"
#include "native/base/half.h"

namespace nextscale::cuda {
namespace {

// Numbers that every format holds exactly: multiples of 1/16 in [-1, 1].
std::vector<float> Numbers(size_t count, uint32_t seed) {
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    seed = seed * 1664525u + 1013904223u;
    number = static_cast<float>(static_cast<int>(seed >> 27) - 16) / 16.0f;
  }
  return numbers;
}

// One side of the comparison: uploads, runs, reads back as f32.
class Side {
 public:
  explicit Side(Backend& backend) : backend_(backend), dtype_(backend.activation_dtype()) {}

  Backend& backend() { return backend_; }
  DType dtype() const { return dtype_; }

  Buffer Floats(const std::vector<float>& values) {
    Buffer buffer = backend_.Allocate(values.size() * sizeof(float), "a self check");
    backend_.Upload(buffer.data(), values.data(), buffer.bytes());
    return buffer;
  }
  Buffer Activations(const std::vector<float>& values) {
    if (dtype_ == DType::kF32) return Floats(values);
    std::vector<uint16_t> halves(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      halves[i] = dtype_ == DType::kBF16 ? BF16FromFloat(values[i]) : F16FromFloat(values[i]);
    }
    Buffer buffer = backend_.Allocate(halves.size() * sizeof(uint16_t), "a self check");
    backend_.Upload(buffer.data(), halves.data(), buffer.bytes());
    return buffer;
  }
  std::vector<float> Read(const Buffer& buffer, DType dtype) {
    std::vector<std::byte> bytes(buffer.bytes());
    backend_.Download(bytes.data(), buffer.data(), bytes.size());
    backend_.Wait();
    std::vector<float> values(bytes.size() / DTypeBytes(dtype));
    WidenToFloat(values.data(), bytes.data(), dtype, values.size());
    return values;
  }
  PackedMatrix Matrix(const std::vector<float>& values, size_t n, size_t k) {
    TensorView view;
    view.data = reinterpret_cast<const std::byte*>(values.data());
    view.shape = {n, k};
    return backend_.PackMatrix(view, "self check");
  }

 private:
  Backend& backend_;
  DType dtype_;
};

// run(side) → the numbers of an op.
template <typename Run>
void Compare(const char* op, Side& device, Side& cpu, const Run& run) {
  const std::vector<float> found = run(device), expected = run(cpu);
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    error += difference * difference;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  const double relative = std::sqrt(error / norm);
  const double bound = device.dtype() == DType::kF32 ? 1e-4 : device.dtype() == DType::kF16 ? 4e-3 : 3e-2;
  NS_REQUIRE(relative <= bound, ErrorCode::kDeviceUnavailable, "the device computes wrongly: ", op, " in ",
             DTypeName(device.dtype()), " is off by ", relative, " of its size, expected at most ", bound);
}

// GELU of a linear layer.
std::vector<float> LinearOf(Side& side, size_t rows, size_t n, size_t k) {
  const std::vector<float> weights = Numbers(n * k, 1);
  const PackedMatrix packed = side.Matrix(weights, n, k);
  const Buffer a = side.Activations(Numbers(rows * k, 2)), bias = side.Floats(Numbers(n, 3));
  const Buffer out = side.backend().Allocate(rows * n * sizeof(float), "a self check");
  LinearArgs args;
  args.out = out.data();
  args.out_stride = n;
  args.a = a.data();
  args.a_dtype = side.dtype();
  args.a_stride = k;
  args.num_rows = rows;
  args.weights = &packed;
  args.bias = bias.as<float>();
  args.epilogue = Epilogue::kGelu;
  side.backend().Linear(args);
  return side.Read(out, DType::kF32);
}

// A modulated norm, then q, k and v into a pool, then attention over it.
std::vector<float> AttentionOf(Side& side, size_t rows) {
  constexpr size_t kHeads = 2, kHeadDim = 64, kWidth = kHeads * kHeadDim;
  const std::vector<float> weights = Numbers(3 * kWidth * kWidth, 4);
  const PackedMatrix packed = side.Matrix(weights, 3 * kWidth, kWidth);
  const Buffer x = side.Floats(Numbers(rows * kWidth, 5)), modulation = side.Floats(Numbers(2 * kWidth, 6)),
               factor = side.Floats({4.0f, 2.0f});
  const size_t size = DTypeBytes(side.dtype());
  const auto allocate = [&](size_t bytes) { return side.backend().Allocate(bytes, "a self check"); };
  const Buffer normal = allocate(rows * kWidth * size), qkv = allocate(rows * 3 * kWidth * size),
               out = allocate(rows * kWidth * size), pool = allocate(2 * rows * 2 * kWidth * size);
  const RowSpan span{0, 0, rows, modulation.as<float>()};
  side.backend().ModulatedNorm({.out = normal.data(),
                                .out_dtype = side.dtype(),
                                .out_stride = kWidth,
                                .x = x.as<float>(),
                                .x_stride = kWidth,
                                .width = kWidth,
                                .spans = std::span(&span, 1),
                                .gain_offset = 0,
                                .shift_offset = kWidth});
  std::vector<uint32_t> slots(rows);
  for (size_t i = 0; i < rows; ++i) slots[i] = static_cast<uint32_t>(2 * (rows - 1 - i) + 1);
  AttentionSequence sequence;
  sequence.num_rows = rows;
  sequence.kv.dtype = side.dtype();
  sequence.kv.pool = pool.data();
  sequence.kv.slots = slots;
  const std::span sequences(&sequence, 1);
  LinearArgs linear;
  linear.out = qkv.data();
  linear.out_dtype = side.dtype();
  linear.out_stride = 3 * kWidth;
  linear.a = normal.data();
  linear.a_dtype = side.dtype();
  linear.a_stride = kWidth;
  linear.num_rows = rows;
  linear.weights = &packed;
  side.backend().Qkv(linear, {.qkv = qkv.data(),
                              .dtype = side.dtype(),
                              .qkv_stride = 3 * kWidth,
                              .num_heads = kHeads,
                              .head_dim = kHeadDim,
                              .head_factor = factor.as<float>(),
                              .sequences = sequences});
  side.backend().Attention({.out = out.data(),
                            .dtype = side.dtype(),
                            .out_stride = kWidth,
                            .q = qkv.data(),
                            .q_stride = 3 * kWidth,
                            .num_heads = kHeads,
                            .head_dim = kHeadDim,
                            .softmax_factor = 1.0f,
                            .sequences = sequences});
  return side.Read(out, side.dtype());
}

// The largest logit of each row, as numbers.
std::vector<float> SampleOf(Side& side) {
  constexpr size_t kTokens = 7, kCodes = 300;
  std::vector<float> values(kTokens * kCodes);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7919 % 2099) / 64.0f;  // all different
  const Buffer logits = side.Floats(values),
               tokens = side.backend().Allocate(kTokens * sizeof(int32_t), "a self check");
  SampleArgs args;
  args.tokens = tokens.as<int32_t>();
  args.cond = logits.as<float>();
  args.stride = args.codebook_size = kCodes;
  args.num_tokens = kTokens;
  args.top_k = 1;
  side.backend().Sample(std::span(&args, 1));
  std::vector<int32_t> found(kTokens);
  side.backend().Download(found.data(), tokens.data(), tokens.bytes());
  side.backend().Wait();
  return std::vector<float>(found.begin(), found.end());
}

}  // namespace

void SelfCheck(Backend& backend, Backend& reference, size_t num_multiprocessors) {
  Side device(backend), cpu(reference);
  Compare("linear (few rows)", device, cpu, [](Side& side) { return LinearOf(side, 5, 200, 264); });
  Compare("linear (32 rows)", device, cpu, [](Side& side) { return LinearOf(side, 27, 200, 264); });
  Compare("linear (narrow tiles)", device, cpu, [](Side& side) { return LinearOf(side, 70, 136, 520); });
  const size_t some = 64 * ((num_multiprocessors + 15) / 16) - 30;  // sixteen small tiles of columns
  Compare("linear (small tiles)", device, cpu, [some](Side& side) { return LinearOf(side, some, 1024, 328); });
  const size_t rows =
      128 * ((num_multiprocessors + 7) / 8) - 60;  // eight tiles of columns: enough for every multiprocessor
  Compare("linear (large tiles)", device, cpu, [rows](Side& side) { return LinearOf(side, rows, 1024, 328); });
  Compare("attention (few rows)", device, cpu, [](Side& side) { return AttentionOf(side, 4); });
  Compare("attention", device, cpu, [](Side& side) { return AttentionOf(side, 150); });
  Compare("sample", device, cpu, [](Side& side) { return SampleOf(side); });
}

}  // namespace nextscale::cuda
