#include "native/backend/cuda/host/graph_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "test/native/backend/cuda/host/scripted_device.h"

namespace nextscale::cuda {
namespace {

struct Args {
  uint64_t value;
  uint32_t words[6];  // no padding: lists are compared byte for byte
};

LaunchList ListOf(uint64_t value, size_t num_launches = 6) {
  LaunchList list;
  for (size_t i = 0; i < num_launches; ++i) {
    list.Add(static_cast<KernelId>(i), {3, 1, 1, 128, 64}, Args{value + i, {1, 2, 3, 4, 5, 6}}, "an op");
  }
  return list;
}

struct CudaGraphCache : ::testing::Test {
  std::shared_ptr<Script> script = std::make_shared<Script>();
  ScriptedDevice device{script};
};

TEST_F(CudaGraphCache, AListThatComesBackBecomesOneGraph) {
  GraphCache cache(device);
  for (int round = 0; round < 5; ++round) cache.Run(ListOf(7));
  EXPECT_EQ(script->calls, (std::vector<std::string>{"run 6", "graph 6", "graph 6", "graph 6", "graph 6"}));
  EXPECT_EQ(script->num_graphs, 1u);
  EXPECT_EQ(cache.counts().plain, 1u);
  EXPECT_EQ(cache.counts().made, 1u);
  EXPECT_EQ(cache.counts().reused, 3u);
}

TEST_F(CudaGraphCache, EveryByteMakesAnotherList) {
  const LaunchList list = ListOf(7);
  EXPECT_TRUE(Equal(list, ListOf(7)));
  EXPECT_EQ(HashOf(list), HashOf(ListOf(7)));
  for (size_t byte = 0; byte < sizeof(Args); ++byte) {
    LaunchList other;
    for (size_t i = 0; i < 6; ++i) {
      Args args{7 + i, {1, 2, 3, 4, 5, 6}};
      if (i == 4) reinterpret_cast<unsigned char*>(&args)[byte] ^= 1;
      other.Add(static_cast<KernelId>(i), {3, 1, 1, 128, 64}, args, "an op");
    }
    EXPECT_FALSE(Equal(list, other)) << byte;
    EXPECT_NE(HashOf(list), HashOf(other)) << byte;
  }
  const auto one = [](uint32_t kernel, const LaunchShape& shape) {
    LaunchList made;
    made.Add(static_cast<KernelId>(kernel), shape, Args{7, {1, 2, 3, 4, 5, 6}}, "an op");
    return made;
  };
  const LaunchList base = one(1, {3, 2, 1, 128, 64});
  EXPECT_FALSE(Equal(base, one(2, {3, 2, 1, 128, 64})));
  const std::vector<LaunchShape> shapes = {
      {4, 2, 1, 128, 64}, {3, 3, 1, 128, 64}, {3, 2, 2, 128, 64}, {3, 2, 1, 64, 64}, {3, 2, 1, 128, 0}};
  for (const LaunchShape& shape : shapes) EXPECT_FALSE(Equal(base, one(1, shape)));
  EXPECT_FALSE(Equal(ListOf(7, 6), ListOf(7, 7)));
}

TEST_F(CudaGraphCache, AGraphRunsItsOwnList) {
  GraphCache cache(device);
  std::vector<uint64_t> values, expected;
  script->on_launch = [&](const Launch& launch, const std::byte* args) {
    if (launch.kernel == static_cast<KernelId>(0)) values.push_back(reinterpret_cast<const Args*>(args)->value);
  };
  for (const uint64_t value : {1, 2, 1, 2, 1, 3, 2, 1, 3, 3}) {
    cache.Run(ListOf(value));
    expected.push_back(value);
  }
  device.Wait();
  EXPECT_EQ(values, expected);
  EXPECT_EQ(script->num_graphs, 3u);
}

TEST_F(CudaGraphCache, TheOneUsedLongestAgoGoesAfterASecondChance) {
  GraphCache cache(device, 2);
  for (const uint64_t value : {1, 1, 2, 2, 1, 3, 3}) cache.Run(ListOf(value));
  EXPECT_EQ(cache.counts().dropped, 0u);  // 2 was used since: 3 runs plainly
  EXPECT_EQ(cache.counts().made, 2u);
  cache.Run(ListOf(3));  // now 1 is the oldest, and has been used
  EXPECT_EQ(cache.counts().dropped, 0u);
  cache.Run(ListOf(3));  // 2 has not
  EXPECT_EQ(cache.counts().dropped, 1u);
  EXPECT_EQ(cache.counts().made, 3u);
  const size_t reused = cache.counts().reused;
  cache.Run(ListOf(1));
  cache.Run(ListOf(3));
  EXPECT_EQ(cache.counts().reused, reused + 2);
}

// A round of lists that is longer than the cache: most of it runs as graphs, and none is made any more.
TEST_F(CudaGraphCache, ARoundThatIsTooLongKeepsWhatThereIsRoomFor) {
  GraphCache cache(device, 8);
  for (int round = 0; round < 10; ++round) {
    const GraphCache::Counts before = cache.counts();
    for (uint64_t value = 0; value < 11; ++value) cache.Run(ListOf(100 * value));
    if (round < 2) continue;
    EXPECT_EQ(cache.counts().made, before.made) << round;
    EXPECT_EQ(cache.counts().reused, before.reused + 8) << round;
    EXPECT_EQ(cache.counts().plain, before.plain + 3) << round;
  }
  // Other work takes the place of what is not used any more.
  for (int round = 0; round < 6; ++round) {
    for (uint64_t value = 0; value < 8; ++value) cache.Run(ListOf(7 + 100 * value));
  }
  const GraphCache::Counts before = cache.counts();
  for (uint64_t value = 0; value < 8; ++value) cache.Run(ListOf(7 + 100 * value));
  EXPECT_EQ(cache.counts().reused, before.reused + 8);
}

TEST_F(CudaGraphCache, ShortListsStayLists) {
  GraphCache cache(device);
  for (int round = 0; round < 4; ++round) cache.Run(ListOf(1, GraphCache::kFewLaunches - 1));
  EXPECT_EQ(script->num_graphs, 0u);
  cache.Run(LaunchList());
  EXPECT_EQ(script->calls.size(), 4u);
}

TEST_F(CudaGraphCache, WhereNoGraphCanBeHadTheListRuns) {
  GraphCache cache(device);
  for (int round = 0; round < 2; ++round) cache.Run(ListOf(1));
  script->refuses_graphs = true;
  for (int round = 0; round < 3; ++round) cache.Run(ListOf(2));
  EXPECT_EQ(script->calls.back(), "run 6");
  EXPECT_EQ(cache.counts().dropped, 1u);  // the graph of list 1 made room
  script->refuses_graphs = false;
  for (const uint64_t value : {2, 1, 2, 1}) cache.Run(ListOf(value));
  EXPECT_EQ(script->num_graphs, 3u);
  EXPECT_EQ(script->calls.back(), "graph 6");
}

}  // namespace
}  // namespace nextscale::cuda
