// One generation of a released architecture, timed: what every benchmark of the engine does.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/generate/engine.h"

namespace nextscale::bench {

using Clock = std::chrono::steady_clock;

inline double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Run {
  std::vector<double> scale_ms;
  double total_ms = 0, decode_ms = 0;
};

// Waits for callbacks of the engine thread.
class Gate {
 public:
  void Open(bool ok, const std::string& message) {
    std::lock_guard lock(mutex_);
    open_ = true;
    ok_ = ok;
    message_ = message;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
    NS_REQUIRE(ok_, ErrorCode::kInternal, message_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false, ok_ = true;
  std::string message_;
};

inline Run GenerateOnce(Engine& engine, const ModelConfig& config, size_t batch, const std::vector<int32_t>& depths,
                        bool decode) {
  Request request;
  for (size_t i = 0; i < batch; ++i) request.labels.push_back(static_cast<int32_t>(i % config.transformer.num_classes));
  request.depths = depths;
  for (size_t k = 0; k < config.num_scales(); ++k) {
    request.guidance.push_back(1.5f * static_cast<float>(k) / static_cast<float>(config.num_scales() - 1));
  }
  request.top_k = 900;
  request.top_p = 0.96f;
  Run run;
  Gate finished;
  Listener listener;
  listener.on_scale = [&](ScaleResult result) { run.scale_ms.push_back(result.scale_ms); };
  listener.on_end = [&](GenerationEnd end) { finished.Open(end.ok, end.message); };
  const auto start = Clock::now();
  const uint64_t id = engine.Start(std::move(request), std::move(listener));
  finished.Wait();
  run.total_ms = MsSince(start);
  if (decode) {
    std::vector<uint8_t> pixels(batch * config.tokenizer.image_numbers());
    Gate decoded;
    const auto decode_start = Clock::now();
    engine.DecodeGeneration(id, {pixels.data(), nullptr}, [&](Outcome end) { decoded.Open(end.ok, end.message); });
    decoded.Wait();
    run.decode_ms = MsSince(decode_start);
  }
  engine.Release(id);
  return run;
}

// Multiply-adds of the linear layers and attention, both guidance branches, as flops per scale.
inline std::vector<double> ScaleFlops(const ModelConfig& config, size_t batch, const std::vector<int32_t>& depths) {
  const double width = static_cast<double>(config.transformer.width), mlp = static_cast<double>(config.transformer.mlp_width);
  std::vector<double> flops;
  double keys = 0;
  for (size_t k = 0; k < config.num_scales(); ++k) {
    const double tokens = static_cast<double>(config.tokenizer.sides[k] * config.tokenizer.sides[k]);
    keys += tokens;  // an upper bound when depth varies: a block that did not run earlier holds fewer
    const double rows = 2.0 * static_cast<double>(batch) * tokens;
    const double block = rows * (2 * (4 * width * width + 2 * width * mlp) + 4 * keys * width);
    flops.push_back(block * depths[k] + rows * 2 * width * static_cast<double>(config.tokenizer.codebook_size));
  }
  return flops;
}

}  // namespace nextscale::bench
