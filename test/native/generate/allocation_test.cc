// Nothing is allocated between a generation's admission and its end, whatever else runs; a depth switch allocates
// nothing either. Counted by replacing the global operator new of the test program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "test/native/generate/engine_harness.h"

namespace {

std::atomic<size_t> all_allocations{0};
thread_local size_t thread_allocations = 0;

void* Count(size_t bytes, size_t alignment) noexcept {
  all_allocations.fetch_add(1, std::memory_order_relaxed);
  ++thread_allocations;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(bytes == 0 ? 1 : bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
void* CountOrThrow(size_t bytes, size_t alignment) {
  void* const memory = Count(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) { return CountOrThrow(bytes, 1); }
void* operator new[](size_t bytes) { return CountOrThrow(bytes, 1); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return CountOrThrow(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return CountOrThrow(bytes, static_cast<size_t>(alignment));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return Count(bytes, 1); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return Count(bytes, 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace nextscale {
namespace {

// A listener that allocates nothing, and counts what was allocated anywhere (engine thread and workers; the test's own
// thread only waits) from the end of one of its calls to the begin of the next.
class Watch {
 public:
  Listener MakeListener(Gate* gate = nullptr, size_t gate_at = 0) {
    return {[this, gate, gate_at](ScaleResult result) {
              if (result.index > 0) between_ += all_allocations.load() - after_last_;
              ++scales_;
              if (gate != nullptr && result.index == gate_at) gate->Enter();
              after_last_ = all_allocations.load();
            },
            [this](GenerationEnd result) {
              ok_ = result.ok;
              std::lock_guard lock(mutex_);
              ended_ = true;
              changed_.notify_all();
            }};
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_; }));
    EXPECT_TRUE(ok_);
  }
  size_t between() const { return between_; }
  size_t scales() const { return scales_; }

 private:
  size_t between_ = 0, after_last_ = 0, scales_ = 0;
  bool ok_ = false, ended_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
};

std::vector<Request> Kinds() {
  std::vector<Request> kinds = {Simple({1}, 1), Simple({1, 2, 3}, 2, {6, 2, 5, 3}), Simple({0, 4}, 3, {6, 6, 6, 6}, 0)};
  kinds.push_back(Simple(std::vector<int32_t>(60, 2), 4));  // more than one part
  kinds.push_back(Simple({1}, 5, {2, 6, 2, 6}));
  kinds.back().keep_dropped_cache = true;
  kinds.push_back(Simple({3}, 6));
  kinds.back().deadline_ms = 2;
  kinds.back().deadline_depths = {2, 4, 6};
  kinds.push_back(Simple({3, 3}, 7, {6, 4, 4, 4}, 0));
  kinds.back().given_tokens.assign(2 * kTokens, 5);
  kinds.back().losses = true;
  kinds.push_back(Simple({1, 0}, 8));
  kinds.back().preview = Preview::kLinear;
  return kinds;
}

TEST(Allocation, TheCounterCounts) {
  const size_t before = all_allocations.load(), of_thread = thread_allocations;
  const auto something = std::make_unique<std::vector<int>>(100);
  EXPECT_EQ(all_allocations.load() - before, 2u);
  EXPECT_EQ(thread_allocations - of_thread, 2u);
}

TEST(Allocation, NoneFromAdmissionToEnd) {
  TestModel model;
  for (const size_t threads : {1, 2}) {
    const auto engine = Open(model, threads);
    engine->SetPreviewMatrix(std::vector<float>(15, 0.1f));
    for (const Request& request : Kinds()) {
      Watch watch;
      engine->Start(request, watch.MakeListener());
      watch.Wait();
      EXPECT_EQ(watch.scales(), kScales);
      EXPECT_EQ(watch.between(), 0u) << "seed " << request.seed << ", " << threads << " threads";
    }
  }
}

// Others run beside it and wait in line for the pool; all of them were there before it began.
TEST(Allocation, NoneBesideOthersAndWithAQueue) {
  TestModel model;
  const auto engine = Open(model, 2, 5 * 2 * (6 * 14 + 25) * kRowBytes);
  Gate gate;
  Watch holder, watched, beside, waits;
  engine->Start(Simple({1}, 1), holder.MakeListener(&gate));
  gate.AwaitEntered();
  engine->Start(Simple({2, 3}, 2, {6, 3, 6, 2}), watched.MakeListener());
  engine->Start(Simple({4}, 3, {2, 2, 6, 6}), beside.MakeListener());
  engine->Start(Simple({4, 5, 1, 2}, 4), waits.MakeListener());
  EXPECT_EQ(engine->Stats().waiting, 3u);  // the engine stands in the listener
  gate.Open();
  for (Watch* one : {&holder, &watched, &beside, &waits}) one->Wait();
  EXPECT_EQ(watched.scales(), kScales);
  EXPECT_EQ(beside.between(), 0u);  // admitted together with `watched`, and the last of the two to hear of a scale
}

TEST(Allocation, ADepthSwitchAllocatesNothing) {
  TestModel model;
  const auto engine = Open(model, 2);
  for (const bool keep : {false, true}) {
    for (size_t at = 0; at + 1 < kScales; ++at) {
      Request request = Simple({1, 2}, 9, {6, 4, 6, 6});
      request.keep_dropped_cache = keep;
      Gate gate;
      Watch watch;
      const uint64_t id = engine->Start(request, watch.MakeListener(&gate, at));
      gate.AwaitEntered();
      const size_t before = thread_allocations;
      for (const size_t depth : {2, 6, 3, 5}) engine->SetDepth(id, depth);
      EXPECT_EQ(thread_allocations - before, 0u);
      gate.Open();
      watch.Wait();
      EXPECT_EQ(watch.between(), 0u) << at;
    }
  }
}

}  // namespace
}  // namespace nextscale
