#include "native/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace nextscale {
namespace {

class ThreadPoolTest : public testing::TestWithParam<size_t> {};

TEST_P(ThreadPoolTest, CallsEveryIndexExactlyOnce) {
  ThreadPool pool(GetParam());
  for (size_t count : {0, 1, 2, 3, 17, 1000}) {
    std::vector<std::atomic<int>> calls(count);
    pool.ParallelFor(count, [&](size_t index, size_t worker) {
      EXPECT_LT(worker, pool.size());
      calls[index].fetch_add(1);
    });
    for (const auto& call : calls) EXPECT_EQ(call.load(), 1);
  }
}

// Regions follow each other at once, and with pauses long enough for the workers to fall asleep.
TEST_P(ThreadPoolTest, RegionsDoNotMix) {
  ThreadPool pool(GetParam());
  std::vector<uint64_t> values(64);
  for (uint64_t region = 1; region <= 20000; ++region) {
    pool.ParallelFor(values.size(), [&](size_t index, size_t) { values[index] += region; });
    if (region % 5000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (uint64_t value : values) ASSERT_EQ(value, uint64_t{20000} * 20001 / 2);
}

TEST_P(ThreadPoolTest, WorkersHaveScratchOfTheirOwn) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(pool.size());
  std::atomic<bool> shared{false};
  pool.ParallelFor(2000, [&](size_t, size_t worker) {
    if (inside[worker].fetch_add(1) != 0) shared = true;
    for (int spin = 0; spin < 100; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    inside[worker].fetch_sub(1);
  });
  EXPECT_FALSE(shared.load());
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace nextscale
