#include "native/model/subnet.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "native/base/error.h"

namespace nextscale {
namespace {

using Blocks = std::vector<uint32_t>;

TEST(Subnet, EvenIsThePapersFormula) {
  EXPECT_EQ(SubnetBlocks(6, 3, Strategy::kEven), (Blocks{0, 2, 5}));
  EXPECT_EQ(SubnetBlocks(6, 4, Strategy::kEven), (Blocks{0, 1, 3, 5}));
  EXPECT_EQ(SubnetBlocks(6, 5, Strategy::kEven), (Blocks{0, 1, 2, 3, 5}));
  EXPECT_EQ(SubnetBlocks(5, 3, Strategy::kEven), (Blocks{0, 2, 4}));
  EXPECT_EQ(SubnetBlocks(30, 8, Strategy::kEven), (Blocks{0, 4, 8, 12, 16, 20, 24, 29}));
  EXPECT_EQ(SubnetBlocks(30, 2, Strategy::kEven), (Blocks{0, 29}));
}

TEST(Subnet, EvenSetsOf16And8ShareOnlyTheEnds) {
  const Blocks large = SubnetBlocks(30, 16, Strategy::kEven), small = SubnetBlocks(30, 8, Strategy::kEven);
  Blocks common;
  std::set_intersection(large.begin(), large.end(), small.begin(), small.end(), std::back_inserter(common));
  EXPECT_EQ(common, (Blocks{0, 29}));
}

TEST(Subnet, EverySetHasItsSizeAndBothEnds) {
  for (Strategy strategy : {Strategy::kEven, Strategy::kNested}) {
    for (size_t full_depth = 2; full_depth <= 64; ++full_depth) {
      for (size_t depth = 2; depth <= full_depth; ++depth) {
        const Blocks blocks = SubnetBlocks(full_depth, depth, strategy);
        ASSERT_EQ(blocks.size(), depth);
        ASSERT_TRUE(std::is_sorted(blocks.begin(), blocks.end()));
        ASSERT_EQ(std::adjacent_find(blocks.begin(), blocks.end()), blocks.end());
        ASSERT_EQ(blocks.front(), 0u);
        ASSERT_EQ(blocks.back(), full_depth - 1);
      }
    }
  }
}

TEST(Subnet, NestedSetsContainEachOtherAndStaySpread) {
  for (size_t full_depth = 3; full_depth <= 64; ++full_depth) {
    for (size_t depth = 2; depth < full_depth; ++depth) {
      const Blocks small = SubnetBlocks(full_depth, depth, Strategy::kNested);
      const Blocks large = SubnetBlocks(full_depth, depth + 1, Strategy::kNested);
      ASSERT_TRUE(std::includes(large.begin(), large.end(), small.begin(), small.end())) << full_depth << " " << depth;
      size_t widest = 0;
      for (size_t i = 1; i < small.size(); ++i) widest = std::max<size_t>(widest, small[i] - small[i - 1]);
      ASSERT_LE(widest, 4 * (full_depth - 1) / (depth - 1)) << full_depth << " " << depth;  // of the even gap
    }
  }
  EXPECT_EQ(SubnetBlocks(30, 16, Strategy::kNested), SubnetBlocks(30, 16, Strategy::kEven));
}

TEST(Subnet, ImpossibleDepthsAreRefused) {
  EXPECT_THROW(SubnetBlocks(6, 1, Strategy::kEven), Error);
  EXPECT_THROW(SubnetBlocks(6, 0, Strategy::kNested), Error);
  EXPECT_THROW(SubnetBlocks(6, 7, Strategy::kEven), Error);
  EXPECT_EQ(SubnetBlocks(1, 1, Strategy::kEven), (Blocks{0}));
}

}  // namespace
}  // namespace nextscale
