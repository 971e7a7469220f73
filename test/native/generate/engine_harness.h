// What the engine's tests share: a listener that records, a gate that holds the engine thread, and requests.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>

#include "native/backend/cpu/cpu_backend.h"
#include "test/native/generate/test_model.h"

namespace nextscale {

inline constexpr size_t kScales = 4, kTokens = 39, kRowBytes = 2 * 24 * 4;  // of TestModel::SmallConfig

// What a listener heard. Waits with a limit, so that a lost end fails a test instead of hanging it.
class Recording {
 public:
  Listener MakeListener(std::function<void(const ScaleResult&)> on_scale = {}) {
    return {[this, on_scale](ScaleResult result) {
              if (on_scale) on_scale(result);
              std::lock_guard lock(mutex_);
              tokens_.insert(tokens_.end(), result.tokens.begin(), result.tokens.end());
              scales_.push_back(std::move(result));
              changed_.notify_all();
            },
            [this](GenerationEnd result) {
              std::lock_guard lock(mutex_);
              ++ends_;
              end_ = std::move(result);
              changed_.notify_all();
            }};
  }
  Done MakeDone() {
    return [on_end = MakeListener().on_end](Outcome outcome) { on_end(GenerationEnd{std::move(outcome)}); };
  }
  GenerationEnd Wait(std::chrono::seconds limit = std::chrono::seconds(60)) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, limit, [&] { return ends_ > 0; })) ADD_FAILURE() << "no end";
    return end_;
  }
  void WaitScales(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return scales_.size() >= count || ends_ > 0; });
  }
  std::vector<int32_t> tokens() {
    std::lock_guard lock(mutex_);
    return tokens_;
  }
  std::vector<ScaleResult> scales() {
    std::lock_guard lock(mutex_);
    return scales_;
  }
  int ends() {
    std::lock_guard lock(mutex_);
    return ends_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::vector<ScaleResult> scales_;
  GenerationEnd end_;
  int ends_ = 0;
};

// The code with which a call refuses; kInternal when it does not.
template <typename Body>
ErrorCode CodeOf(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

// Holds the engine thread inside a callback until opened.
class Gate {
 public:
  void Enter() {
    std::unique_lock lock(mutex_);
    entered_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return open_; });
  }
  void AwaitEntered() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return entered_; }));
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool entered_ = false, open_ = false;
};

inline std::unique_ptr<Engine> Open(TestModel& model, size_t threads = 1, size_t kv_bytes = size_t{64} << 20,
                                    DType kv_dtype = DType::kF32) {
  EngineOptions options;
  options.kv_bytes = kv_bytes;
  options.kv_dtype = kv_dtype;
  return std::make_unique<Engine>(model.config, model.tensors, options, MakeCpuBackend(threads), nullptr);
}

inline Request Simple(std::vector<int32_t> labels, uint64_t seed, std::vector<int32_t> depths = {6, 6, 6, 6},
                      float guidance = 1.5f) {
  Request request;
  request.labels = std::move(labels);
  request.seed = seed;
  for (size_t k = 0; k < kScales; ++k) request.guidance.push_back(guidance * static_cast<float>(k) / (kScales - 1));
  request.top_k = 20;
  request.top_p = 0.95f;
  request.depths = std::move(depths);
  return request;
}

inline std::vector<Request> Mix(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  std::vector<Request> mix;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> labels(1 + random() % 3), depths;
    for (int32_t& label : labels) label = static_cast<int32_t>(random() % 6);
    for (size_t k = 0; k < kScales; ++k) depths.push_back(2 + static_cast<int32_t>(random() % 5));
    mix.push_back(Simple(labels, random(), depths, random() % 3 == 0 ? 0.0f : 2.0f));
    mix.back().keep_dropped_cache = random() % 2 == 0;
    mix.back().top_k = random() % 2 == 0 ? 0 : 1 + random() % 32;
  }
  return mix;
}

inline std::vector<int32_t> Alone(Engine& engine, const Request& request) {
  Recording recording;
  engine.Start(request, recording.MakeListener());
  EXPECT_TRUE(recording.Wait().ok) << recording.Wait().message;
  return recording.tokens();
}

inline void ExpectIdle(const Engine& engine) {
  const EngineStats stats = engine.Stats();
  EXPECT_EQ(stats.pool.used_bytes, 0u);
  EXPECT_EQ(stats.pool.reserved_bytes, 0u);
  EXPECT_EQ(stats.running + stats.waiting, 0u);
  EXPECT_LE(stats.pool.peak_bytes, stats.pool.capacity_bytes);
}

}  // namespace nextscale
