// Times training steps of a small transformer with random weights and tokens against the machine's own GEMM rate,
// measured in the same process. Prints one JSON object.
//
//   train --depth 12 --width 256 --batch 32 --micro 8 --subnet 12 --bridge 3 --threads 2 --repeat 5 --sides 1,2,3,4,6,8
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "bench/native/peak.h"
#include "native/backend/cpu/cpu_backend.h"
#include "native/base/error.h"
#include "native/base/rng.h"
#include "native/model/subnet.h"
#include "native/train/trainer.h"

namespace nextscale::bench {
namespace {

size_t ResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

// The tensors of the quantizer, random, in memory.
class RandomTokenizer {
 public:
  explicit RandomTokenizer(const TokenizerConfig& vae) {
    Add("vae.quantize.embedding.weight", {vae.codebook_size, vae.code_dim});
    for (size_t i = 0; i < vae.num_residual_convs; ++i) {
      const std::string name = "vae.quantize.quant_resi.qresi_ls." + std::to_string(i);
      Add(name + ".weight", {vae.code_dim, vae.code_dim, 3, 3});
      Add(name + ".bias", {vae.code_dim});
    }
  }
  TensorTable tensors;

 private:
  void Add(const std::string& name, std::vector<size_t> shape) {
    TensorView view;
    view.shape = std::move(shape);
    std::vector<float>& values = values_.emplace_back(view.num_elements());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(UniformDraw(2, values_.size(), 0, static_cast<uint32_t>(i)) - 0.5);
    }
    view.data = reinterpret_cast<const std::byte*>(values.data());
    tensors.Add(name, view);
  }
  std::deque<std::vector<float>> values_;
};

// Multiply-adds of matrices and of attention's visible pairs, counted two each; the way back costs twice the way
// forward (attention's recomputation is not counted).
double StepFlops(const ModelConfig& config, size_t batch, const std::vector<int32_t>& depths) {
  const double width = static_cast<double>(config.transformer.width),
               mlp = static_cast<double>(config.transformer.mlp_width);
  const double codes = static_cast<double>(config.tokenizer.codebook_size);
  const SubnetTable subnets(config.transformer.depth, Strategy::kEven);
  double flops = 0;
  for (size_t block = 0; block < config.transformer.depth; ++block) {
    double visible = 0;
    for (size_t k = 0; k < depths.size(); ++k) {
      const auto blocks = subnets.Blocks(static_cast<size_t>(depths[k]));
      if (std::find(blocks.begin(), blocks.end(), block) == blocks.end()) continue;
      const double tokens = static_cast<double>(config.tokenizer.sides[k] * config.tokenizer.sides[k]);
      visible += tokens;
      flops += tokens * (2 * (4 * width * width + 2 * width * mlp) + 4 * visible * width);
    }
  }
  flops += static_cast<double>(config.num_tokens()) * 2 * width * codes;
  return 3 * flops * static_cast<double>(batch);
}

std::vector<size_t> Numbers(const std::string& text) {
  std::vector<size_t> numbers;
  for (size_t at = 0; at <= text.size();
       at = text.find(',', at) == std::string::npos ? text.size() + 1 : text.find(',', at) + 1) {
    numbers.push_back(std::strtoull(text.c_str() + at, nullptr, 10));
  }
  return numbers;
}

int Main(std::map<std::string, std::string> options) {
  const auto number = [&](const char* name, size_t fallback) {
    return options.count(name) ? std::strtoull(options[name].c_str(), nullptr, 10) : fallback;
  };
  const size_t depth = number("--depth", 12), width = number("--width", 256), batch = number("--batch", 32);
  const size_t subnet = number("--subnet", depth), bridge = number("--bridge", 3), repeat = number("--repeat", 5);
  const size_t threads = number("--threads", 2);
  ModelConfig config;
  config.transformer = {.depth = depth,
                        .width = width,
                        .num_heads = std::max<size_t>(1, width / 64),
                        .mlp_width = 4 * width,
                        .num_classes = 10};
  config.tokenizer = {.codebook_size = number("--codes", 512),
                      .code_dim = number("--code-dim", 8),
                      .num_residual_convs = 4,
                      .channels = 32,
                      .multipliers = {1, 1, 2},
                      .num_res_blocks = 1,
                      .sides = Numbers(options.count("--sides") ? options["--sides"] : "1,2,3,4,6,8")};
  const RandomTokenizer tokenizer(config.tokenizer);
  TrainerOptions trainer_options;
  trainer_options.micro_batch = number("--micro", 8);
  trainer_options.checkpointing = number("--checkpointing", 0) != 0;
  trainer_options.average = true;
  trainer_options.initial_seed = 1;

  double peak = 0;
  {
    Context context(threads);
    peak = GemmGflops(context);
  }
  Trainer trainer(std::make_unique<CpuBackend>(threads), config, tokenizer.tensors, trainer_options);
  std::vector<int32_t> tokens(batch * config.num_tokens()), labels(batch),
      depths(config.num_scales(), static_cast<int32_t>(depth));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(UniformDraw(3, 0, 0, static_cast<uint32_t>(i)) *
                                     static_cast<double>(config.tokenizer.codebook_size));
  }
  for (size_t i = 0; i < batch; ++i) labels[i] = static_cast<int32_t>(i % 11);
  for (size_t k = bridge; k < depths.size(); ++k) depths[k] = static_cast<int32_t>(subnet);

  std::vector<double> times;
  for (size_t i = 0; i <= repeat; ++i) {
    const StepResult step =
        trainer.Step({.tokens = tokens, .labels = labels, .depths = depths}, {.learning_rate = 1e-4, .clip_norm = 2});
    if (i > 0) times.push_back(step.ms);  // the first one touches the memory
  }
  std::sort(times.begin(), times.end());
  const double ms = times[times.size() / 2], flops = StepFlops(config, batch, depths);
  std::printf(
      "{\"depth\":%zu,\"width\":%zu,\"subnet\":%zu,\"bridge\":%zu,\"batch\":%zu,\"microBatch\":%zu,\"checkpointing\":%"
      "s,"
      "\"threads\":%zu,\"gemmPeakGflops\":%.1f,\"stepMs\":%.1f,\"gflop\":%.1f,\"shareOfPeak\":%.3f,\"plannedBytes\":%"
      "zu,"
      "\"peakResidentBytes\":%zu}\n",
      depth, width, subnet, bridge, batch, trainer_options.micro_batch,
      trainer_options.checkpointing ? "true" : "false", threads, peak, ms, flops * 1e-9, flops / (ms * 1e6) / peak,
      trainer.memory_bytes(), ResidentBytes());
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
