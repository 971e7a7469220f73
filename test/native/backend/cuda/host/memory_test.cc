#include "native/backend/cuda/host/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "test/native/backend/cuda/host/scripted_device.h"

namespace nextscale::cuda {
namespace {

struct CudaMemory : ::testing::Test {
  std::shared_ptr<Script> script = std::make_shared<Script>();
  ScriptedDevice device{script};
  Memory memory{device};
};

TEST_F(CudaMemory, SizeClassesLoseLittleAndAreTheirOwnClass) {
  for (size_t bytes = 1; bytes < (size_t{1} << 40); bytes = bytes * 9 / 8 + 1) {
    const size_t size = Memory::SizeClass(bytes);
    EXPECT_GE(size, bytes);
    EXPECT_LE(size - bytes, std::max<size_t>(255, bytes / 32)) << bytes;
    EXPECT_EQ(size % 256, 0u);
    EXPECT_EQ(Memory::SizeClass(size), size) << bytes;
  }
}

TEST_F(CudaMemory, TheSameSizesGiveTheSameAddressesWithoutTheDriver) {
  const std::vector<size_t> sizes = {1000, 1 << 20, 300, 5000, 1 << 20, 0};
  std::vector<std::byte*> last;
  for (int round = 0; round < 6; ++round) {
    std::vector<Buffer> buffers;
    std::vector<std::byte*> addresses;
    for (const size_t bytes : sizes) {
      buffers.push_back(memory.Allocate(bytes, "a test"));
      addresses.push_back(buffers.back().data());
      EXPECT_EQ(buffers.back().bytes(), bytes);
    }
    EXPECT_TRUE(round < 2 || addresses == last) << round;
    last = addresses;
    if (round % 2 == 1) std::reverse(buffers.begin(), buffers.end());  // they go in any order
    while (!buffers.empty()) buffers.pop_back();
  }
  EXPECT_EQ(script->num_allocations, 5u);
  EXPECT_EQ(memory.used_bytes(), 0u);
  EXPECT_EQ(memory.kept_bytes(), script->bytes);
}

TEST_F(CudaMemory, TrimGivesBackWhatNobodyUses) {
  const Buffer used = memory.Allocate(4096, "a test");
  { const Buffer unused = memory.Allocate(8192, "a test"); }
  memory.Trim();
  EXPECT_EQ(script->bytes, 4096u);
  EXPECT_EQ(memory.used_bytes(), 4096u);
  EXPECT_EQ(memory.kept_bytes(), 0u);
}

TEST_F(CudaMemory, NoRoomIsAnErrorThatChangesNothing) {
  script->limit_bytes = 10000;
  const Buffer small = memory.Allocate(2048, "a test");
  try {
    memory.Allocate(20000, "a test");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
  }
  EXPECT_EQ(memory.used_bytes(), 2048u);
  EXPECT_NE(memory.Allocate(4096, "a test").data(), nullptr);
}

TEST_F(CudaMemory, BuffersGoBackOnAnyThread) {
  std::vector<std::thread> threads;
  for (size_t round = 0; round < 200; ++round) {
    Buffer buffer = memory.Allocate(256 * (1 + round % 7), "a test");
    threads.emplace_back([moved = std::move(buffer)]() mutable { const Buffer last = std::move(moved); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(memory.used_bytes(), 0u);
  EXPECT_EQ(memory.kept_bytes(), script->bytes);
}

}  // namespace
}  // namespace nextscale::cuda
