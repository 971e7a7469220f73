// Times the released tokenizer's decoder with random weights, and each of its convolutions in both forms, against the
// best rate of a matrix product in the same run. Prints a table to stderr and one JSON object to stdout.
//
//   bench_decoder [threads = 2] [repeats = 5] [f32 | bf16 | f16]
#include "native/tokenizer/decoder.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "bench/native/peak.h"
#include "bench/native/random_model.h"
#include "native/backend/cpu/cpu_backend.h"
#include "native/backend/cpu/kernels.h"

namespace nextscale::bench {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Times {
  double best = 1e300, median = 0;
};

template <typename Body>
Times Measure(int repeats, const Body& body) {
  std::vector<double> seconds;
  body();  // first touch of memory
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Clock::now();
    body();
    seconds.push_back(SecondsSince(start));
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

// The tokenizer's tensors with random numbers, in memory.
class RandomTokenizer {
 public:
  RandomTokenizer(const ModelConfig& config, DType dtype) {
    for (const auto& [name, shape] : TensorShapes(config)) {
      if (name.rfind("vae.", 0) == 0) table_.Add(name, MakeTensor(name, shape, dtype));
    }
  }
  const TensorTable& table() const { return table_; }

 private:
  TensorView MakeTensor(const std::string& name, const std::vector<size_t>& shape, DType dtype) {
    TensorView view;
    view.shape = shape;
    view.dtype = dtype;
    const size_t count = view.num_elements(), size = DTypeBytes(dtype);
    const float factor = shape.size() == 1 ? 0.1f : 1.7f / std::sqrt(static_cast<float>(count / shape[0]));
    const float middle =
        shape.size() == 1 && name.find("norm") != std::string::npos && name.ends_with("weight") ? 1.0f : 0.0f;
    std::vector<std::byte>& bytes = memory_.emplace_back(count * size);
    for (size_t i = 0; i < count; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      const float value = middle + factor * (static_cast<float>(state_ >> 40) * 0x1p-23f - 1.0f);
      StoreAs(dtype, value, bytes.data() + i * size);
    }
    view.data = bytes.data();
    return view;
  }

  TensorTable table_;
  std::deque<std::vector<std::byte>> memory_;
  uint64_t state_ = 1;
};

struct Shape {
  size_t cin, cout, side;  // side of the input
  ConvKind kind;
  size_t times;  // how often the decoder has it
};

// Every 3×3 convolution of the decoder, by shape.
constexpr Shape kShapes[] = {
    {32, 640, 16, ConvKind::kSame, 1},   {640, 640, 16, ConvKind::kSame, 10}, {640, 640, 16, ConvKind::kUp, 1},
    {640, 320, 32, ConvKind::kSame, 1},  {320, 320, 32, ConvKind::kSame, 5},  {320, 320, 32, ConvKind::kUp, 1},
    {320, 320, 64, ConvKind::kSame, 6},  {320, 320, 64, ConvKind::kUp, 1},    {320, 160, 128, ConvKind::kSame, 1},
    {160, 160, 128, ConvKind::kSame, 5}, {160, 160, 128, ConvKind::kUp, 1},   {160, 160, 256, ConvKind::kSame, 6},
    {160, 3, 256, ConvKind::kSame, 1}};

double TimeConv(Context& context, const Shape& shape, ConvAlgorithm algorithm, DType dtype, int repeats) {
  std::vector<float> weights(shape.cout * shape.cin * 9, 0.01f);
  std::vector<uint16_t> narrow(weights.size(), 0x1000);
  TensorView view;
  view.dtype = dtype;
  view.data = dtype == DType::kF32 ? reinterpret_cast<const std::byte*>(weights.data())
                                   : reinterpret_cast<const std::byte*>(narrow.data());
  view.shape = {shape.cout, shape.cin, 3, 3};
  const PackedConv packed = PackConv(context, view, std::vector<float>(shape.cout), "random");
  ConvArgs args;
  args.in_height = args.in_width = shape.side;
  args.kind = shape.kind;
  args.weights = &packed;
  args.in_stride = MapStride(shape.cin);
  args.out_stride = MapStride(shape.cout);
  args.algorithm = algorithm;
  const Buffer in(shape.side * shape.side * args.in_stride * 4),
      out(args.out_height() * args.out_width() * args.out_stride * 4);
  std::fill_n(in.as<float>(), shape.side * shape.side * args.in_stride, 0.5f);
  const std::vector<float> gain(args.in_stride, 1.0f);
  const bool normalised = shape.kind == ConvKind::kSame && shape.cin > 32;
  args.in = in.as<float>();
  args.out = out.as<float>();
  args.gain = args.shift = normalised ? gain.data() : nullptr;
  args.workspace_floats = ConvWorkspace(args);
  const Buffer workspace(args.workspace_floats * 4);
  args.workspace = workspace.as<float>();
  return Measure(repeats, [&] { Conv(context, args); }).best;
}

double ConvGflop(const Shape& shape) {
  const double pixels = static_cast<double>(shape.side * shape.side) * (shape.kind == ConvKind::kUp ? 4 : 1);
  return 18e-9 * pixels * static_cast<double>(shape.cin * shape.cout);
}

void TimeConvolutions(Context& context, DType dtype, int repeats, double gemm_rate) {
  std::fprintf(stderr, "%5s %5s %5s %3s %3s | %9s %9s %9s | winograd / (direct at the GEMM rate)\n", "cin", "cout",
               "side", "up", "n", "direct ms", "winogr ms", "auto ms");
  std::printf("\"convolutions\":[");
  double total = 0, floor = 0;
  for (const Shape& shape : kShapes) {
    const double direct = TimeConv(context, shape, ConvAlgorithm::kDirect, dtype, repeats);
    const double winograd = TimeConv(context, shape, ConvAlgorithm::kWinograd, dtype, repeats);
    const double chosen = TimeConv(context, shape, ConvAlgorithm::kAuto, dtype, repeats);
    const double ideal = ConvGflop(shape) / gemm_rate;
    total += static_cast<double>(shape.times) * chosen;
    floor += static_cast<double>(shape.times) * ideal;
    std::fprintf(stderr, "%5zu %5zu %5zu %3d %3zu | %9.2f %9.2f %9.2f | %.2f\n", shape.cin, shape.cout, shape.side,
                 shape.kind == ConvKind::kUp, shape.times, direct * 1e3, winograd * 1e3, chosen * 1e3,
                 winograd / ideal);
    std::printf(
        "%s{\"cin\":%zu,\"cout\":%zu,\"side\":%zu,\"up\":%s,\"count\":%zu,\"gflop\":%.4f,\"directMs\":%.3f,"
        "\"winogradMs\":%.3f,"
        "\"autoMs\":%.3f}",
        &shape == kShapes ? "" : ",", shape.cin, shape.cout, shape.side, shape.kind == ConvKind::kUp ? "true" : "false",
        shape.times, ConvGflop(shape), direct * 1e3, winograd * 1e3, chosen * 1e3);
  }
  std::printf("],");
  std::fprintf(stderr, "sum of the convolutions %.1f ms; as direct convolution at the GEMM rate %.1f ms\n", total * 1e3,
               floor * 1e3);
}

double DecoderGflop() {
  double total = 0;
  for (const Shape& shape : kShapes) total += static_cast<double>(shape.times) * ConvGflop(shape);
  total += 2e-9 * (1024.0 * 640 * 320 + 16384.0 * 320 * 160);           // shortcuts
  total += 4 * 2e-9 * (256.0 * 640 * 640 * 4 + 2 * 256.0 * 256 * 640);  // attention
  return total;
}

void Run(size_t threads, int repeats, DType dtype, const char* dtype_name) {
  CpuBackend backend(threads);
  Context& context = backend.context();
  double gemm_rate = GemmGflops(context);
  std::printf("{\"threads\":%zu,\"dtype\":\"%s\",", threads, dtype_name);
  TimeConvolutions(context, dtype, repeats, gemm_rate);

  const ModelConfig config = ReleasedConfig(16);
  const RandomTokenizer tokenizer(config, dtype);
  const auto start = Clock::now();
  Decoder decoder(backend, config.tokenizer, tokenizer.table());
  const double pack_seconds = SecondsSince(start);
  std::vector<float> f_hat(32 * 16 * 16), image(3 * 256 * 256);
  for (size_t i = 0; i < f_hat.size(); ++i) f_hat[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
  const Times decode = Measure(repeats, [&] { decoder.Decode(f_hat.data(), image.data(), nullptr); });
  gemm_rate = std::max(gemm_rate, GemmGflops(context));
  const double gflop = DecoderGflop(), ratio = decode.best / (gflop / gemm_rate);
  std::fprintf(stderr,
               "GEMM %.1f GFLOP/s; pack %.0f ms; decode best %.1f ms, median %.1f ms = %.1f GFLOP/s of %.1f GFLOP; "
               "%.3f of direct "
               "convolution at the GEMM rate\n",
               gemm_rate, pack_seconds * 1e3, decode.best * 1e3, decode.median * 1e3, gflop / decode.best, gflop,
               ratio);
  std::printf(
      "\"gemmGflops\":%.2f,\"packMs\":%.1f,\"decodeMs\":%.2f,\"decodeMedianMs\":%.2f,\"decodeGflop\":%.2f,"
      "\"directGflops\":%.2f,"
      "\"ratioToGemm\":%.4f}\n",
      gemm_rate, pack_seconds * 1e3, decode.best * 1e3, decode.median * 1e3, gflop, gflop / decode.best, ratio);
}

}  // namespace
}  // namespace nextscale::bench

int main(int argc, char** argv) {
  using nextscale::DType;
  const size_t threads = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 5;
  const std::string dtype = argc > 3 ? argv[3] : "f32";
  try {
    nextscale::bench::Run(threads, repeats,
                          dtype == "bf16"  ? DType::kBF16
                          : dtype == "f16" ? DType::kF16
                                           : DType::kF32,
                          dtype.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
