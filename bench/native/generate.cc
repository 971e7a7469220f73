// Times one generation of a released architecture with random weights: per scale, decoder, peak memory, and the
// machine's own GEMM rate in the same process. Prints one JSON object; bench/run.mjs starts one process per
// configuration.
//
//   generate --depth 16 --subnet 8 --bridge 6 --batch 1 --dtype f32 --threads 2 --repeat 3 --weights d16.safetensors
//
// The weights file is written on first use and kept.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "bench/native/generation.h"
#include "bench/native/peak.h"
#include "bench/native/random_model.h"
#include "native/backend/cpu/cpu_backend.h"
#include "native/io/safetensors.h"

namespace nextscale::bench {
namespace {

size_t StatusKilobytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field, 0) == 0) return std::strtoull(line.c_str() + std::string(field).size() + 1, nullptr, 10);
  }
  return 0;
}

std::string List(const std::vector<double>& values) {
  std::string text = "[";
  for (double value : values) {
    char number[32];
    std::snprintf(number, sizeof number, "%s%.3f", text.size() > 1 ? "," : "", value);
    text += number;
  }
  return text + "]";
}

int Main(std::map<std::string, std::string> options) {
  const auto number = [&](const char* name, size_t fallback) {
    return options.count(name) ? std::strtoull(options[name].c_str(), nullptr, 10) : fallback;
  };
  const size_t depth = number("--depth", 16), batch = number("--batch", 1), repeat = number("--repeat", 3);
  const size_t threads = number("--threads", 2), bridge = number("--bridge", 6), subnet = number("--subnet", depth);
  const std::string dtype_name = options.count("--dtype") ? options["--dtype"] : "f32";
  const std::string kv_name = options.count("--kv") ? options["--kv"] : "f32";
  const auto parse = [](const std::string& name) {
    return name == "f16" ? DType::kF16 : name == "bf16" ? DType::kBF16 : DType::kF32;
  };
  const std::string path = options.count("--weights")
                               ? options["--weights"]
                               : (std::filesystem::temp_directory_path() /
                                  ("nextscale-bench-d" + std::to_string(depth) + "-" + dtype_name + ".safetensors"))
                                     .string();
  const ModelConfig config = ReleasedConfig(depth);
  if (!std::filesystem::exists(path)) WriteRandomModel(config, parse(dtype_name), path);

  double peak = 0, fma_peak = 0, read_rate = 0;
  {
    Context context(threads);
    peak = GemmGflops(context);
    fma_peak = PeakGflops(context.pool());
    read_rate = ReadGigabytesPerSecond(context.pool());
  }
  const SafetensorsFile file(path);
  EngineOptions engine_options;
  engine_options.kv_dtype = parse(kv_name);
  engine_options.kv_bytes = size_t{4} << 30;
  const auto open_start = Clock::now();
  Engine engine(config, file.table(), engine_options, MakeCpuBackend(threads), [](double) {});
  const double open_ms = MsSince(open_start);

  std::vector<int32_t> depths(config.num_scales(), static_cast<int32_t>(depth));
  for (size_t k = bridge; k < depths.size(); ++k) depths[k] = static_cast<int32_t>(subnet);
  GenerateOnce(engine, config, batch, depths, false);  // warm-up
  std::vector<Run> runs;
  for (size_t i = 0; i < repeat; ++i) runs.push_back(GenerateOnce(engine, config, batch, depths, true));
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.total_ms < b.total_ms; });
  const Run& median = runs[runs.size() / 2];

  double work = 0;
  std::vector<double> share;
  const std::vector<double> flops = ScaleFlops(config, batch, depths);
  for (size_t k = 0; k < flops.size(); ++k) {
    work += flops[k];
    share.push_back(flops[k] / (median.scale_ms[k] * 1e6) / peak);
  }
  std::printf(
      "{\"depth\":%zu,\"subnet\":%zu,\"bridge\":%zu,\"batch\":%zu,\"dtype\":\"%s\",\"kvDtype\":\"%s\",\"threads\":%zu,"
      "\"gemmPeakGflops\":%.1f,\"fmaPeakGflops\":%.1f,\"readGigabytesPerSecond\":%.1f,\"weightBytes\":%ju,\"openMs\":%."
      "1f,\"transformerMs\":%.1f,\"transformerShareOfPeak\":%.3f,"
      "\"gflop\":%.1f,\"scaleMs\":%s,\"scaleShareOfPeak\":%s,\"decodeMs\":%.1f,\"peakResidentBytes\":%zu,"
      "\"poolPeakBytes\":%zu}\n",
      depth, subnet, bridge, batch, dtype_name.c_str(), kv_name.c_str(), threads, peak, fma_peak, read_rate,
      static_cast<uintmax_t>(std::filesystem::file_size(path)), open_ms, median.total_ms,
      work / (median.total_ms * 1e6) / peak, work * 1e-9, List(median.scale_ms).c_str(), List(share).c_str(),
      median.decode_ms, StatusKilobytes("VmHWM:") * 1024, engine.Stats().pool.peak_bytes);
  return 0;
}

}  // namespace
}  // namespace nextscale::bench

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  try {
    return nextscale::bench::Main(std::move(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
    return 1;
  }
}
