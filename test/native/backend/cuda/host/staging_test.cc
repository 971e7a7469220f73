#include "native/backend/cuda/host/staging.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "test/native/backend/cuda/host/scripted_device.h"

namespace nextscale::cuda {
namespace {

struct CudaStaging : ::testing::Test {
  std::shared_ptr<Script> script = std::make_shared<Script>();
  ScriptedDevice device{script};

  static std::vector<uint32_t> Table(uint32_t first, size_t count) {
    std::vector<uint32_t> table(count);
    std::iota(table.begin(), table.end(), first);
    return table;
  }
};

TEST_F(CudaStaging, TablesStandOnTheDeviceAfterThePush) {
  TableArea area(device, 4096);
  const auto one = Table(1, 7), two = Table(100, 50), three = Table(7, 3);
  const uint32_t* const at_one = area.Append(std::span<const uint32_t>(one));
  const uint32_t* const at_two = area.Append(std::span<const uint32_t>(two));
  EXPECT_TRUE(script->calls.empty());
  area.Push();
  area.Push();
  EXPECT_EQ(script->calls.size(), 1u);  // one copy, and none when there is nothing new
  const uint32_t* const at_three = area.Append(std::span<const uint32_t>(three));
  area.Push();
  device.Wait();
  EXPECT_EQ(std::vector<uint32_t>(at_one, at_one + 7), one);
  EXPECT_EQ(std::vector<uint32_t>(at_two, at_two + 50), two);
  EXPECT_EQ(std::vector<uint32_t>(at_three, at_three + 3), three);
  area.Restart();
  EXPECT_EQ(area.Append(std::span<const uint32_t>(two)), at_one);
}

TEST_F(CudaStaging, WhatWasReservedFits) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    TableArea area(device, 4096);
    const size_t a = random() % 500, b = random() % 500, before = random() % 1000;
    const auto zeros = Table(0, 1000);
    area.Append(std::span<const uint32_t>(zeros).first(before / 4));
    if (!area.HasRoom(TableArea::Needed({4 * a, 4 * b}))) continue;
    const auto one = Table(1, a), two = Table(1000, b);
    const uint32_t* const at_one = area.Append(std::span<const uint32_t>(one));
    const uint32_t* const at_two = area.Append(std::span<const uint32_t>(two));
    area.Push();
    device.Wait();
    EXPECT_EQ(std::vector<uint32_t>(at_one, at_one + a), one);
    EXPECT_EQ(std::vector<uint32_t>(at_two, at_two + b), two);
  }
}

// Any sizes, areas of 256 bytes: every number goes there and back, and Wait is called when an area is full.
TEST_F(CudaStaging, TransfersGoInPieces) {
  Transfers transfers(device, 256);
  const auto wait = [&] {
    device.Wait();
    transfers.Deliver();
  };
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const size_t bytes = random() % 1500;
    std::vector<unsigned char> from(bytes), found(bytes, 0xEE), memory(bytes);
    for (unsigned char& value : from) value = static_cast<unsigned char>(random());
    std::vector<unsigned char> sent = from;
    transfers.Upload(memory.data(), sent.data(), bytes, wait);
    std::fill(sent.begin(), sent.end(), 0);  // may be changed at once
    transfers.Download(found.data(), memory.data(), bytes, wait);
    wait();
    EXPECT_EQ(memory, from);
    EXPECT_EQ(found, from);
  }
}

TEST_F(CudaStaging, DownloadsArriveWithDeliverAndOnlyOnce) {
  Transfers transfers(device, 256);
  std::vector<uint32_t> from = Table(5, 8), to(8);
  const auto never = [] { ADD_FAILURE() << "there was room"; };
  transfers.Download(to.data(), from.data(), 32, never);
  device.Wait();
  EXPECT_EQ(to, std::vector<uint32_t>(8));
  transfers.Deliver();
  EXPECT_EQ(to, from);
  to.assign(8, 0);
  transfers.Deliver();
  EXPECT_EQ(to, std::vector<uint32_t>(8));
  transfers.Download(to.data(), from.data(), 32, never);
  transfers.Restart();  // forgotten: the target may be gone
  device.Wait();
  transfers.Deliver();
  EXPECT_EQ(to, std::vector<uint32_t>(8));
}

}  // namespace
}  // namespace nextscale::cuda
