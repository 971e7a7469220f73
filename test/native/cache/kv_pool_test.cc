#include "native/cache/kv_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "native/base/error.h"

namespace nextscale {
namespace {

// Thousands of random takes and returns against a set of slot numbers.
TEST(KvPool, RandomUseAgreesWithASet) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 20; ++round) {
    const size_t capacity = 1 + random() % 200, row_bytes = 8;
    KvPool pool(Buffer(capacity * row_bytes + random() % row_bytes), row_bytes);
    ASSERT_EQ(pool.capacity(), capacity);
    std::set<uint32_t> taken;
    std::vector<std::pair<KvChain, std::vector<uint32_t>>> chains;
    size_t peak = 0;
    for (int step = 0; step < 1000; ++step) {
      const size_t room = capacity - taken.size();
      if (random() % 2 == 0 && room > 0) {
        std::vector<uint32_t> slots(1 + random() % room);  // up to all that is left: no fragmentation may refuse it
        const KvChain chain = pool.Take(slots);
        for (uint32_t slot : slots) {
          EXPECT_LT(slot, capacity);
          EXPECT_TRUE(taken.insert(slot).second) << "slot handed out twice";
        }
        chains.emplace_back(chain, std::move(slots));
      } else if (!chains.empty()) {
        std::swap(chains[random() % chains.size()], chains.back());
        pool.Return(chains.back().first);
        for (uint32_t slot : chains.back().second) taken.erase(slot);
        chains.pop_back();
      }
      peak = std::max(peak, taken.size());
      ASSERT_EQ(pool.used(), taken.size());
      ASSERT_EQ(pool.peak(), peak);
    }
  }
}

TEST(KvPool, ReservationsNeverExceedTheBudget) {
  std::mt19937_64 random(3);
  KvPool pool(Buffer(1000), 10);
  std::vector<size_t> held;
  size_t total = 0;
  for (int step = 0; step < 5000; ++step) {
    const size_t want = random() % 60;
    if (random() % 2 == 0) {
      const bool fits = total + want <= 100;
      ASSERT_EQ(pool.Reserve(want), fits);
      if (fits) held.push_back(want), total += want;
    } else if (!held.empty()) {
      pool.Unreserve(held.back());
      total -= held.back();
      held.pop_back();
    }
    ASSERT_EQ(pool.reserved(), total);
    ASSERT_EQ(pool.available(), 100 - total);
  }
}

TEST(KvPool, TakingMoreThanThereIsIsAnErrorAndChangesNothing) {
  KvPool pool(Buffer(40), 10);
  std::vector<uint32_t> slots(3), more(2);
  const KvChain chain = pool.Take(slots);
  EXPECT_THROW(pool.Take(more), Error);
  EXPECT_EQ(pool.used(), 3u);
  pool.Return(chain);
  EXPECT_EQ(pool.used(), 0u);
}

TEST(KvPool, AnEmptyBudgetHoldsNothing) {
  KvPool pool(Buffer(9), 10);
  EXPECT_EQ(pool.capacity(), 0u);
  EXPECT_FALSE(pool.Reserve(1));
  EXPECT_TRUE(pool.Reserve(0));
}

}  // namespace
}  // namespace nextscale
