#include "native/cache/kv_lease.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace nextscale {
namespace {

// A lease beside a model that writes down, for every (block, sequence), which (scale, token) each row belongs to.
// Rows are marked in memory when they are begun, so a row that was lost or shared shows as a wrong mark.
TEST(KvLease, BlocksHoldExactlyTheScalesTheyRan) {
  std::mt19937_64 random(4);
  const std::vector<size_t> tokens = {1, 4, 9, 16};
  const size_t num_blocks = 5, num_sequences = 3;
  KvPool pool(Buffer(1 << 16), sizeof(uint64_t));
  for (int round = 0; round < 300; ++round) {
    KvLease first(pool, num_blocks, num_sequences, tokens), second(pool, num_blocks, num_sequences, tokens);
    KvLease* leases[] = {&first, &second};
    std::map<std::tuple<int, size_t, size_t>, std::vector<uint64_t>> expected;
    const bool keep = random() % 2 == 0;
    for (size_t k = 0; k < tokens.size(); ++k) {
      for (int which = 0; which < 2; ++which) {
        std::vector<uint32_t> blocks;
        for (uint32_t block = 0; block < num_blocks; ++block) {
          if (block == 0 || random() % 2 == 0) blocks.push_back(block);
        }
        KvLease& lease = *leases[which];
        lease.BeginScale(k, blocks, keep);
        const bool last = k + 1 == tokens.size();
        std::set<uint32_t> present(blocks.begin(), blocks.end());
        for (uint32_t block = 0; block < num_blocks; ++block) {
          for (size_t sequence = 0; sequence < num_sequences; ++sequence) {
            auto& marks = expected[{which, block, sequence}];
            if (present.count(block) == 0) {
              if (!keep) marks.clear();
              continue;
            }
            const auto slots = lease.Slots(block, sequence);
            ASSERT_EQ(slots.size(), marks.size() + tokens[k]);
            for (size_t i = 0; i < marks.size(); ++i)
              ASSERT_EQ(reinterpret_cast<uint64_t*>(pool.rows())[slots[i]], marks[i]);
            const size_t before = marks.size();
            for (size_t token = 0; token < tokens[k]; ++token) {
              const uint64_t mark = random();
              reinterpret_cast<uint64_t*>(pool.rows())[slots[before + token]] = mark;
              if (!last) marks.push_back(mark);
            }
          }
        }
        lease.EndScale();
      }
    }
  }
  EXPECT_EQ(pool.used(), 0u);
}

TEST(KvLease, TheLastScaleIsSharedScratch) {
  KvPool pool(Buffer(1 << 16), 8);
  KvLease lease(pool, 3, 2, {1, 4});
  const std::vector<uint32_t> blocks = {0, 1, 2};
  lease.BeginScale(0, blocks, false);
  EXPECT_EQ(pool.used(), 3u * 2 * 1);
  lease.EndScale();
  lease.BeginScale(1, blocks, false);
  EXPECT_EQ(pool.used(), 3u * 2 * 1 + 2 * 4);  // one block's worth, not three
  EXPECT_EQ(lease.Slots(0, 1)[1], lease.Slots(2, 1)[1]);
  EXPECT_NE(lease.Slots(0, 0)[1], lease.Slots(0, 1)[1]);
  lease.EndScale();
  EXPECT_EQ(pool.used(), 3u * 2 * 1);
}

}  // namespace
}  // namespace nextscale
