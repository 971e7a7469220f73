#include "native/cache/kv_plan.h"

#include <gtest/gtest.h>

#include <random>

#include "native/cache/kv_lease.h"
#include "native/cache/kv_pool.h"

namespace nextscale {
namespace {

const std::vector<size_t> kVar256 = {1, 4, 9, 16, 25, 36, 64, 100, 169, 256};  // tokens of every scale

std::vector<uint32_t> Even(size_t full_depth, size_t depth) {
  std::vector<uint32_t> blocks;
  for (size_t i = 0; i < depth; ++i) blocks.push_back(static_cast<uint32_t>(i * (full_depth - 1) / (depth - 1)));
  return blocks;
}

struct Plan {
  Plan(size_t full, std::vector<size_t> scale_tokens, const std::vector<size_t>& depths, bool keep_dropped)
      : full_depth(full), tokens(std::move(scale_tokens)), keep(keep_dropped) {
    for (size_t depth : depths) sets.push_back(Even(full_depth, depth));
    for (const auto& set : sets) blocks.emplace_back(set);
  }
  KvPlan View() const { return {tokens, blocks, keep}; }
  size_t Peak(std::vector<size_t> held = {}, size_t first_scale = 0) const {
    held.resize(full_depth);
    return PeakRows(View(), held, first_scale);
  }
  size_t full_depth;
  std::vector<size_t> tokens;
  bool keep;
  std::vector<std::vector<uint32_t>> sets;
  std::vector<std::span<const uint32_t>> blocks;
};

std::vector<size_t> Bridge(size_t full_depth, size_t bridge, size_t depth, size_t num_scales = 10) {
  std::vector<size_t> depths(num_scales, depth);
  std::fill_n(depths.begin(), bridge, full_depth);
  return depths;
}

// In units of the naive cache: every block, every token.
double Units(size_t rows) { return static_cast<double>(rows) / (30.0 * 680.0); }

TEST(KvPlan, PeaksOfD30AreTheDesignsFigures) {
  EXPECT_NEAR(Units(Plan(30, kVar256, Bridge(30, 10, 30), false).Peak()), 0.636, 0.0005);
  EXPECT_NEAR(Units(Plan(30, kVar256, Bridge(30, 6, 16), false).Peak()), 0.345, 0.0005);
  EXPECT_NEAR(Units(Plan(30, kVar256, Bridge(30, 6, 8), false).Peak()), 0.179, 0.0005);
  EXPECT_NEAR(Units(Plan(30, kVar256, Bridge(30, 6, 2), false).Peak()), 0.134, 0.0005);
  // And to the row: 424 tokens before the last scale, 256 rows of scratch, 91 tokens in the bridge.
  EXPECT_EQ(Plan(30, kVar256, Bridge(30, 10, 30), false).Peak(), 30u * 424 + 256);
  EXPECT_EQ(Plan(30, kVar256, Bridge(30, 6, 8), false).Peak(), 8u * 424 + 256);
  EXPECT_EQ(Plan(30, kVar256, Bridge(30, 6, 2), false).Peak(), 30u * 91);
}

TEST(KvPlan, KeepingDroppedBlocksCostsTheirRows) {
  EXPECT_EQ(Plan(30, kVar256, Bridge(30, 6, 8), true).Peak(), 30u * 91 + 8 * (424 - 91) + 256);
}

TEST(KvPlan, OneScaleNeedsOnlyScratch) { EXPECT_EQ(Plan(4, {9}, {4}, false).Peak(), 9u); }

// Drives a lease through random plans: what it uses at its peak is what the plan said, from any scale on, and a plan
// whose depths turn out lower never needs more than the bound.
TEST(KvPlan, PeakIsExactlyWhatALeaseUses) {
  std::mt19937_64 random(1);
  const auto draw = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  for (int round = 0; round < 2000; ++round) {
    const size_t full_depth = draw(2, 12), num_scales = draw(1, 7), num_sequences = draw(1, 3);
    std::vector<size_t> tokens, depths, lower;
    for (size_t side = 1; tokens.size() < num_scales; side += draw(1, 2)) tokens.push_back(side * side);
    for (size_t i = 0; i < num_scales; ++i) {
      depths.push_back(draw(2, full_depth));
      lower.push_back(draw(2, depths.back()));
    }
    const bool keep = draw(0, 1) == 1;
    const Plan plan(full_depth, tokens, depths, keep), below(full_depth, tokens, lower, keep);
    const std::vector<size_t> empty(full_depth);
    EXPECT_LE(plan.Peak(), PeakRowsAtMost(plan.View(), empty));
    EXPECT_LE(below.Peak(), PeakRowsAtMost(plan.View(), empty));

    KvPool pool(Buffer(1 << 20), 16);
    {
      KvLease lease(pool, full_depth, num_sequences, tokens);
      const size_t middle = draw(0, num_scales - 1);
      size_t rest = 0, peak_before = 0, peak_after = 0;
      for (size_t k = 0; k < num_scales; ++k) {
        if (k == middle) rest = plan.Peak(lease.held(), k);
        lease.BeginScale(k, plan.blocks[k], keep);
        EXPECT_EQ(pool.used(), lease.used());
        (k < middle ? peak_before : peak_after) = std::max(k < middle ? peak_before : peak_after, lease.used());
        lease.EndScale();
      }
      EXPECT_EQ(peak_after, rest * num_sequences);
      EXPECT_EQ(std::max(peak_before, peak_after), plan.Peak() * num_sequences);
    }
    EXPECT_EQ(pool.used(), 0u);
  }
}

}  // namespace
}  // namespace nextscale
