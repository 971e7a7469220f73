// Times generations on a CUDA device with random weights of a released architecture, against the device's own limits
// measured in the same process: bytes that a copy moves and operations that a large product reaches. Needs no Node.
//
//   bench_cuda --library build/Release/libnextscale_cuda.so --depth 30 --batches 1,8,64 --subnets 16,8,4,2
//
// The floor of a scale is the larger of two times: its weights and its cache read once at the copy's rate, and its
// operations at the product's rate. Prints a table, and one JSON object per configuration with --json 1.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/native/generation.h"
#include "bench/native/random_model.h"
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/host/kernel_library.h"
#include "native/io/safetensors.h"

namespace nextscale::bench {
namespace {

using Options = std::map<std::string, std::string>;

struct Limits {
  double bytes_per_ms = 0, flops_per_ms = 0;
};

struct Setting {
  std::string library, weights;
  size_t device = 0, depth = 30, bridge = 6, repeat = 5;
  DType dtype = DType::kBF16;
};

std::unique_ptr<Backend> Open(const Setting& setting) {
  return cuda::MakeCudaBackend(cuda::Library::Open(setting.library)->OpenDevice(setting.device), setting.dtype);
}

// Best of some rounds, each long enough that issuing does not count.
template <typename Task>
double BestMs(Backend& backend, size_t count, const Task& task) {
  double best = 1e30;
  for (int round = 0; round < 6; ++round) {
    backend.Wait();
    const auto start = Clock::now();
    for (size_t i = 0; i < count; ++i) task();
    backend.Wait();
    best = std::min(best, MsSince(start) / static_cast<double>(count));
  }
  return best;
}

// A row-major matrix of small numbers, as a file would hold it.
class Matrix {
 public:
  Matrix(size_t n, size_t k) : values_(n * k) {
    for (size_t i = 0; i < values_.size(); ++i)
      values_[i] = static_cast<uint16_t>(0x3C00 + i % 61);  // bf16, about 0.01
    view_.data = reinterpret_cast<const std::byte*>(values_.data());
    view_.dtype = DType::kBF16;
    view_.shape = {n, k};
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<uint16_t> values_;
  TensorView view_;
};

// One linear layer without bias, [m, k] · [n, k]ᵀ.
double LinearMs(Backend& backend, size_t m, size_t n, size_t k, size_t count) {
  const DType dtype = backend.activation_dtype();
  const PackedMatrix weights = backend.PackMatrix(Matrix(n, k).view(), "bench");
  const Buffer a = backend.Allocate(m * k * DTypeBytes(dtype), "bench"),
               out = backend.Allocate(m * n * DTypeBytes(dtype), "bench");
  LinearArgs args;
  args.out = out.data();
  args.out_dtype = dtype;
  args.out_stride = n;
  args.a = a.data();
  args.a_dtype = dtype;
  args.a_stride = k;
  args.num_rows = m;
  args.weights = &weights;
  return BestMs(backend, count, [&] { backend.Linear(args); });
}

Limits Measure(Backend& backend) {
  constexpr size_t kBytes = size_t{1} << 30, kSide = 8192;
  Limits limits;
  {
    const Buffer from = backend.Allocate(kBytes, "bench"), to = backend.Allocate(kBytes, "bench");
    const double ms = BestMs(backend, 10, [&] { backend.Copy(to.data(), from.data(), kBytes); });
    limits.bytes_per_ms = 2.0 * static_cast<double>(kBytes) / ms;  // read and written
  }
  limits.flops_per_ms = 2.0 * kSide * kSide * kSide / LinearMs(backend, kSide, kSide, kSide, 4);
  return limits;
}

// The linear layers of a block at the row counts of every scale, both branches.
void PrintLayers(Backend& backend, const ModelConfig& config, size_t batch, const Limits& limits) {
  const size_t width = config.transformer.width, mlp = config.transformer.mlp_width;
  const size_t element = DTypeBytes(backend.activation_dtype());
  struct Layer {
    const char* name;
    size_t n, k;
  };
  std::printf("\nlinear layers of one block, batch %zu: achieved TFLOP/s (share of the floor's rate)\n%8s", batch,
              "rows");
  const Layer layers[] = {{"qkv", 3 * width, width}, {"proj", width, width}, {"fc1", mlp, width}, {"fc2", width, mlp}};
  for (const Layer& layer : layers) std::printf("%18s", layer.name);
  std::printf("\n");
  for (const size_t side : config.tokenizer.sides) {
    const size_t rows = 2 * batch * side * side;
    std::printf("%8zu", rows);
    for (const Layer& layer : layers) {
      const double ms = LinearMs(backend, rows, layer.n, layer.k, 20);
      const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(layer.n * layer.k);
      const double bytes = static_cast<double>(element * (layer.n * layer.k + rows * (layer.n + layer.k)));
      const double floor = std::max(flops / limits.flops_per_ms, bytes / limits.bytes_per_ms);
      std::printf("%10.1f (%3.0f %%)", flops / ms * 1e-9, 100 * floor / ms);
    }
    std::printf("\n");
  }
}

// Bytes that a scale has to read at least: the weights of its blocks and of the head, and the cache.
std::vector<double> ScaleBytes(const ModelConfig& config, size_t batch, const std::vector<int32_t>& depths,
                               DType dtype) {
  const double width = static_cast<double>(config.transformer.width),
               mlp = static_cast<double>(config.transformer.mlp_width);
  const double element = static_cast<double>(DTypeBytes(dtype));
  std::vector<double> bytes;
  double keys = 0;
  for (size_t k = 0; k < config.num_scales(); ++k) {
    keys += static_cast<double>(config.tokenizer.sides[k] * config.tokenizer.sides[k]);
    const double block = 4 * width * width + 2 * width * mlp + 2.0 * static_cast<double>(batch) * keys * 2 * width;
    bytes.push_back(element * (block * depths[k] + width * static_cast<double>(config.tokenizer.codebook_size)));
  }
  return bytes;
}

// Returns the time of the transformer.
double TimeGeneration(Engine& engine, const ModelConfig& config, const Setting& setting, const Limits& limits,
                      size_t batch, size_t subnet, bool json) {
  std::vector<int32_t> depths(config.num_scales(), static_cast<int32_t>(setting.depth));
  for (size_t k = setting.bridge; k < depths.size(); ++k) depths[k] = static_cast<int32_t>(subnet);
  for (int i = 0; i < 3; ++i) GenerateOnce(engine, config, batch, depths, true);  // graphs are made at the second
  std::vector<Run> runs;
  for (size_t i = 0; i < setting.repeat; ++i) runs.push_back(GenerateOnce(engine, config, batch, depths, true));
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.total_ms < b.total_ms; });
  const Run& run = runs[runs.size() / 2];
  const std::vector<double> flops = ScaleFlops(config, batch, depths);
  const std::vector<double> bytes = ScaleBytes(config, batch, depths, setting.dtype);
  double floor = 0;
  std::printf("\nbatch %zu, subnet %zu after %zu scales\n%6s %6s %10s %10s %7s\n", batch, subnet, setting.bridge,
              "side", "depth", "ms", "floor ms", "ratio");
  for (size_t k = 0; k < flops.size(); ++k) {
    const double here = std::max(flops[k] / limits.flops_per_ms, bytes[k] / limits.bytes_per_ms);
    floor += here;
    std::printf("%6zu %6d %10.3f %10.3f %6.2f×\n", config.tokenizer.sides[k], depths[k], run.scale_ms[k], here,
                run.scale_ms[k] / here);
  }
  const double images = static_cast<double>(batch);
  std::printf("%6s %6s %10.3f %10.3f %6.2f×   per image %.3f ms, decoder %.3f ms\n", "all", "", run.total_ms, floor,
              run.total_ms / floor, run.total_ms / images, run.decode_ms / images);
  if (json) {
    std::printf(
        "{\"depth\":%zu,\"subnet\":%zu,\"batch\":%zu,\"ms\":%.3f,\"floorMs\":%.3f,\"decodeMs\":%.3f,"
        "\"poolPeakBytes\":%zu}\n",
        setting.depth, subnet, batch, run.total_ms, floor, run.decode_ms, engine.Stats().pool.peak_bytes);
  }
  return run.total_ms;
}

std::vector<size_t> Numbers(const std::string& list) {
  std::vector<size_t> numbers;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) numbers.push_back(std::strtoull(part.c_str(), nullptr, 10));
  return numbers;
}

int Main(Options options) {
  const auto text = [&](const char* name, const char* fallback) {
    return options.count(name) ? options[name] : std::string(fallback);
  };
  const auto number = [&](const char* name, const char* fallback) {
    return static_cast<size_t>(std::strtoull(text(name, fallback).c_str(), nullptr, 10));
  };
  Setting setting;
  setting.library = text("--library", "build/Release/libnextscale_cuda.so");
  setting.device = number("--device", "0");
  setting.depth = number("--depth", "30");
  setting.bridge = number("--bridge", "6");
  setting.repeat = std::max<size_t>(1, number("--repeat", "5"));
  const std::string dtype = text("--dtype", "bf16");
  setting.dtype = dtype == "f16" ? DType::kF16 : dtype == "f32" ? DType::kF32 : DType::kBF16;
  const std::string file_name = "nextscale-bench-d" + std::to_string(setting.depth) + "-bf16.safetensors";
  setting.weights = text("--weights", (std::filesystem::temp_directory_path() / file_name).string().c_str());
  const ModelConfig config = ReleasedConfig(setting.depth);
  if (!std::filesystem::exists(setting.weights)) WriteRandomModel(config, DType::kBF16, setting.weights);

  Limits limits;
  const std::vector<size_t> batches = Numbers(text("--batches", "1,8,64"));
  {
    const std::unique_ptr<Backend> backend = Open(setting);
    limits = Measure(*backend);
    std::printf("%s, %s: copies %.2f TB/s, product of 8192 x 8192 x 8192 %.0f TFLOP/s\n",
                std::string(backend->name()).c_str(), dtype.c_str(), limits.bytes_per_ms * 1e-9,
                limits.flops_per_ms * 1e-9);
    for (const size_t batch : batches) PrintLayers(*backend, config, batch, limits);
  }
  const SafetensorsFile file(setting.weights);
  EngineOptions engine_options;
  engine_options.kv_dtype = setting.dtype;
  engine_options.kv_bytes = number("--pool-bytes", "34359738368");
  const auto open_start = Clock::now();
  Engine engine(config, file.table(), engine_options, Open(setting), [](double) {});
  std::printf("\nopened in %.0f ms\n", MsSince(open_start));
  for (const size_t batch : batches) {
    const double full =
        TimeGeneration(engine, config, setting, limits, batch, setting.depth, options.count("--json") != 0);
    for (const size_t subnet : Numbers(text("--subnets", "16,8,4,2"))) {
      const double ms = TimeGeneration(engine, config, setting, limits, batch, subnet, options.count("--json") != 0);
      std::printf("gain of subnet %zu: %.2f×\n", subnet, full / ms);
    }
  }
  return 0;
}

}  // namespace
}  // namespace nextscale::bench

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  if (argc == 2) {
    std::printf(
        "bench_cuda [--library FILE] [--device 0] [--depth 30] [--dtype bf16] [--batches 1,8,64] [--subnets "
        "16,8,4,2]\n           [--bridge 6] [--repeat 5] [--weights FILE] [--pool-bytes N] [--json 1]\n");
    return 0;
  }
  try {
    return nextscale::bench::Main(std::move(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_cuda: %s\n", error.what());
    return 1;
  }
}
