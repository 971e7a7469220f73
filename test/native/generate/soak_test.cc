// Random load from several threads: arrivals, depths, raises, aborts, budgets, callers that read late, scores,
// pictures, previews. Nothing is lost, leaks, passes the budget, or changes a token. NEXTSCALE_SOAK_SECONDS says for
// how long; under ThreadSanitizer this is the long race test (see CONTRIBUTING.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <thread>

#include "test/native/generate/engine_harness.h"

namespace nextscale {
namespace {

using Time = std::chrono::steady_clock;
constexpr size_t kClients = 4, kBacklog = 6;
constexpr std::chrono::seconds kPatience(600);  // a machine may be busy with other things

// A request, what it draws alone, and the cross entropy when it is a score.
struct Known {
  Request request;
  std::vector<int32_t> tokens;
  std::vector<float> losses;
};

std::vector<float> LossesOf(Recording& recording) {
  std::vector<float> losses;
  for (const ScaleResult& scale : recording.scales())
    losses.insert(losses.end(), scale.losses.begin(), scale.losses.end());
  return losses;
}

std::vector<Known> Catalogue(Engine& engine) {
  std::vector<Known> catalogue;
  std::mt19937_64 random(3);
  for (Request& request : Mix(77, 14)) {
    if (catalogue.size() % 7 == 6) request.labels.assign(45, 1);  // in parts
    if (catalogue.size() % 3 == 1) {
      for (size_t i = 0; i < request.labels.size() * kTokens; ++i)
        request.given_tokens.push_back(static_cast<int32_t>(random() % 32));
      request.losses = true;
    }
    Recording recording;
    engine.Start(request, recording.MakeListener());
    EXPECT_TRUE(recording.Wait().ok);
    catalogue.push_back({request, recording.tokens(), LossesOf(recording)});
  }
  return catalogue;
}

struct Counts {
  std::atomic<size_t> finished{0}, cancelled{0}, refused{0}, raised{0}, raises_refused{0}, jobs{0}, late{0};
};

// One caller. Keeps a backlog of generations that it looks at only later.
class Client {
 public:
  Client(Engine& engine, const std::vector<Known>& catalogue, Counts& counts, uint64_t seed)
      : engine_(engine), catalogue_(catalogue), counts_(counts), random_(seed) {}

  void RunUntil(Time::time_point end) {
    while (Time::now() < end) {
      StartOne();
      if (Chance(3)) Encode();
      if (Chance(2)) CheckPool();
      if (Chance(5)) std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 4));
      while (backlog_.size() > kBacklog) Read();
    }
    while (!backlog_.empty()) Read();
  }

 private:
  struct Running {
    const Known* known;
    uint64_t id;
    bool same_plan, cancelled;             // nothing was changed on the way; somebody cancelled it
    std::shared_ptr<Recording> recording;  // its listener holds it, too: an end that comes too late finds it
  };

  bool Chance(uint64_t one_in) { return random_() % one_in == 0; }

  void StartOne() {
    const Known& known = catalogue_[random_() % catalogue_.size()];
    Request request = known.request;
    request.wait = !Chance(4);
    Running running{&known, 0, true, false, std::make_shared<Recording>()};
    if (Chance(4) && request.given_tokens.empty()) {
      request.preview = Chance(2) ? Preview::kLinear : Preview::kDecode;
    }
    if (Chance(6)) {
      request.deadline_ms = static_cast<double>(1 + random_() % 20);
      request.deadline_depths = {2, 3, 6};
      running.same_plan = false;
    }
    const Listener listener = running.recording->MakeListener();
    running.id = engine_.Start(
        request, {[keep = running.recording, listener](ScaleResult scale) { listener.on_scale(std::move(scale)); },
                  [keep = running.recording, listener](GenerationEnd end) { listener.on_end(std::move(end)); }});
    if (Chance(2)) running.recording->WaitScales(random_() % 3);
    if (Chance(3)) ChangeDepth(running);
    if (Chance(5)) {
      running.cancelled = true;
      Chance(2) ? engine_.Cancel(running.id) : engine_.Release(running.id);
    }
    backlog_.push_back(std::move(running));
  }

  void ChangeDepth(Running& running) {
    running.same_plan = false;
    for (uint64_t change = 1 + random_() % 3; change > 0; --change) {
      try {
        engine_.SetDepth(running.id, 2 + random_() % 5);
        ++counts_.raised;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kPoolExhausted);
        ++counts_.raises_refused;
      }
    }
  }

  void Encode() {
    std::vector<float> pixels(300, 0.25f);
    std::vector<int32_t> tokens(kTokens);
    Recording done;
    engine_.tokenizer().Encode(pixels, tokens.data(), done.MakeDone());
    EXPECT_TRUE(done.Wait(kPatience).ok);
    ++counts_.jobs;
  }

  void CheckPool() {
    const EngineStats stats = engine_.Stats();
    EXPECT_LE(stats.pool.reserved_bytes, stats.pool.capacity_bytes);
    EXPECT_LE(stats.pool.used_bytes, stats.pool.reserved_bytes);
  }

  void Read() {
    Running running = std::move(backlog_.front());
    backlog_.pop_front();
    const GenerationEnd end = running.recording->Wait(kPatience);
    EXPECT_EQ(running.recording->ends(), 1);
    if (!end.ok) {
      const bool expected = running.cancelled ? end.code == ErrorCode::kAborted || end.code == ErrorCode::kPoolExhausted
                                              : end.code == ErrorCode::kPoolExhausted;
      EXPECT_TRUE(expected) << end.message;
      ++(end.code == ErrorCode::kAborted ? counts_.cancelled : counts_.refused);
    } else {
      ++counts_.finished;
      for (const ScaleResult& scale : running.recording->scales())
        counts_.late += scale.reason == DepthReason::kLate ? 1 : 0;
      if (running.same_plan) {
        EXPECT_EQ(running.recording->tokens(), running.known->tokens);
        EXPECT_EQ(LossesOf(*running.recording), running.known->losses);
      }
      if (!running.cancelled && Chance(4)) Decode(running);
    }
    engine_.Release(running.id);
  }

  void Decode(const Running& running) {
    std::vector<uint8_t> image(running.known->request.labels.size() * 300);
    Recording done;
    engine_.DecodeGeneration(running.id, {image.data(), nullptr}, done.MakeDone());
    EXPECT_TRUE(done.Wait(kPatience).ok);
    ++counts_.jobs;
  }

  Engine& engine_;
  const std::vector<Known>& catalogue_;
  Counts& counts_;
  std::mt19937_64 random_;
  std::deque<Running> backlog_;
};

TEST(Soak, RandomLoad) {
  const char* const text = std::getenv("NEXTSCALE_SOAK_SECONDS");
  const double seconds = text == nullptr ? 1.5 : std::atof(text);
  ASSERT_GT(seconds, 0);
  TestModel model;
  const std::vector<Known> catalogue = Catalogue(*Open(model, 2));
  Counts counts;
  const auto end = Time::now() + std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(seconds));
  const size_t one = 6 * (6 * 14 + 25) * kRowBytes;  // the largest of the small ones, at full depth
  // Large enough for everything, for one large one, for a few small ones.
  const std::vector<size_t> budgets = {64 * one, 20 * one, 2 * one};
  for (size_t round = 0; Time::now() < end; ++round) {
    const auto engine = Open(model, 2, budgets[round % budgets.size()]);
    engine->SetPreviewMatrix(std::vector<float>(15, 0.1f));
    const auto round_end = std::min(end, Time::now() + std::chrono::milliseconds(static_cast<int>(300 + seconds * 50)));
    std::vector<std::thread> threads;
    for (size_t client = 0; client < kClients; ++client) {
      threads.emplace_back(
          [&, client] { Client(*engine, catalogue, counts, round * kClients + client).RunUntil(round_end); });
    }
    for (std::thread& thread : threads) thread.join();
    ExpectIdle(*engine);
    ASSERT_FALSE(testing::Test::HasFailure()) << "in round " << round;
  }
  std::printf(
      "%zu finished, %zu cancelled, %zu refused, depth set %zu times (refused %zu), %zu jobs, %zu late scales\n",
      counts.finished.load(), counts.cancelled.load(), counts.refused.load(), counts.raised.load(),
      counts.raises_refused.load(), counts.jobs.load(), counts.late.load());
  EXPECT_GT(counts.finished, 0u);
  EXPECT_GT(counts.jobs, 0u);
}

}  // namespace
}  // namespace nextscale
