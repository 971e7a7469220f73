// CudaBackend over a device that runs nothing: order, tables and errors.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/kernels/calls.h"
#include "test/native/backend/cuda/host/scripted_device.h"

namespace nextscale::cuda {
namespace {

struct CudaBackendTest : ::testing::Test {
  std::shared_ptr<Script> script = std::make_shared<Script>();
  std::unique_ptr<Backend> backend = MakeCudaBackend(std::make_unique<ScriptedDevice>(script), DType::kF32);
  Buffer memory = backend->Allocate(1 << 16, "a test");

  // Attention of one row over keys in these slots of a pool.
  void Attend(std::span<const uint32_t> slots) {
    AttentionSequence sequence;
    sequence.num_rows = 1;
    sequence.kv = {DType::kF32, memory.data(), slots, nullptr, 0};
    AttentionArgs args;
    args.out = memory.data() + 4096;
    args.q = memory.data() + 8192;
    args.num_heads = 1;
    args.head_dim = 8;
    args.out_stride = args.q_stride = 8;
    args.sequences = std::span(&sequence, 1);
    backend->Attention(args);
  }
  void Add(size_t offset) {
    backend->AddOffset({.out = memory.as<float>() + offset,
                        .out_stride = 4,
                        .in = memory.as<float>(),
                        .in_stride = 4,
                        .offset = memory.as<float>(),
                        .num_rows = 1,
                        .width = 4});
  }
  template <typename Call>
  void ExpectLost(const char* name, const Call& call) {
    try {
      call();
      ADD_FAILURE() << name << " did not throw";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDeviceLost) << name;
      EXPECT_STREQ(error.what(), "the first message") << name;
    }
  }
};

// Tables are the host's and may be changed as soon as a call returns: the same address may hold other slots.
TEST_F(CudaBackendTest, AttentionReadsTheSlotsOfItsOwnCall) {
  std::vector<std::vector<uint32_t>> seen;
  script->on_launch = [&](const Launch& launch, const std::byte* bytes) {
    if (std::string(launch.op) != "attention") return;
    AttentionCall args;
    std::memcpy(&args, bytes, sizeof args);
    const SequenceRows& rows = args.sequences[0];
    seen.emplace_back(args.slots + rows.first_slot, args.slots + rows.first_slot + rows.num_keys);
  };
  std::vector<uint32_t> slots = {3, 1, 4};
  Attend(slots);
  slots = {1, 5, 9};
  Attend(slots);
  slots.assign(3, 0);
  backend->Wait();
  EXPECT_EQ(seen, (std::vector<std::vector<uint32_t>>{{3, 1, 4}, {1, 5, 9}}));
}

// A refused call leaves nothing behind that the next one could take for its own tables.
TEST_F(CudaBackendTest, ARefusedCallDoesNotSpoilTheNext) {
  std::vector<std::vector<uint32_t>> seen;
  script->on_launch = [&](const Launch&, const std::byte* bytes) {
    AttentionCall args;
    std::memcpy(&args, bytes, sizeof args);
    seen.emplace_back(args.slots, args.slots + args.sequences[0].num_keys);
  };
  const std::vector<uint32_t> slots = {3, 1, 4}, bad = {7, 8, kTailBit}, next = {7, 8, 4};
  Attend(slots);
  EXPECT_THROW(Attend(bad), Error);
  Attend(next);
  backend->Wait();
  EXPECT_EQ(seen, (std::vector<std::vector<uint32_t>>{slots, next}));
}

// The same rows of keys and values under another width are other slots.
TEST_F(CudaBackendTest, TheWidthOfARowCounts) {
  std::vector<uint32_t> seen;
  script->on_launch = [&](const Launch&, const std::byte* bytes) {
    AttentionCall args;
    std::memcpy(&args, bytes, sizeof args);
    seen.push_back(args.slots[args.sequences[1].first_slot] & ~kTailBit);
  };
  std::vector<AttentionSequence> sequences(2);
  for (size_t i = 0; i < 2; ++i) {
    sequences[i].compact_row = i;
    sequences[i].num_rows = 1;
    sequences[i].kv = {DType::kF32, nullptr, {}, memory.data() + 256 * i, 1};
  }
  for (const size_t head_dim : {8, 16}) {
    AttentionArgs args;
    args.out = memory.data() + 4096;
    args.q = memory.data() + 8192;
    args.num_heads = 1;
    args.head_dim = head_dim;
    args.out_stride = args.q_stride = 16;
    args.sequences = sequences;
    backend->Attention(args);
  }
  backend->Wait();
  EXPECT_EQ(seen, (std::vector<uint32_t>{4, 2}));
}

TEST_F(CudaBackendTest, TablesThatFindNoRoomAreAnErrorAndNothingElse) {
  const std::vector<uint32_t> few = {1, 2}, many(size_t{6} << 20, 1);
  script->limit_bytes = script->bytes + (size_t{1} << 20);
  EXPECT_THROW(Attend(many), Error);
  size_t num_launches = 0;
  script->on_launch = [&](const Launch&, const std::byte*) { ++num_launches; };
  Attend(few);
  backend->Wait();
  EXPECT_GT(num_launches, 0u);
  script->limit_bytes = size_t{1} << 40;
  Attend(many);  // and once there is room, it grows
  backend->Wait();
}

// A graph is a convenience: where there is no memory for one, the list runs as it is.
TEST_F(CudaBackendTest, WhereNoGraphCanBeHadTheListRuns) {
  size_t num_launches = 0;
  script->on_launch = [&](const Launch&, const std::byte*) { ++num_launches; };
  script->refuses_graphs = true;
  for (size_t step = 1; step <= 3; ++step) {
    for (size_t op = 0; op < 6; ++op) Add(64 * op);
    backend->Wait();
    EXPECT_EQ(num_launches, 6 * step);
  }
  EXPECT_EQ(script->num_graphs, 0u);
  script->refuses_graphs = false;
  for (size_t op = 0; op < 6; ++op) Add(64 * op);
  backend->Wait();
  EXPECT_EQ(script->num_graphs, 1u);
}

TEST_F(CudaBackendTest, AStepThatRepeatsAllocatesNothingAndMakesOneGraph) {
  size_t allocations = 0;
  for (int step = 0; step < 6; ++step) {
    {
      const Buffer lent = backend->Allocate(3000, "a test");
      for (uint32_t op = 0; op < 6; ++op) Attend(std::vector<uint32_t>{op, 7});
    }
    backend->Wait();
    if (step == 1) allocations = script->num_allocations;
    EXPECT_TRUE(step == 0 || script->num_allocations == allocations) << step;
  }
  EXPECT_EQ(script->num_graphs, 1u);
}

TEST_F(CudaBackendTest, CopiesStayInOrderWithOpsAndArriveWithTheWait) {
  std::vector<uint32_t> values(64, 5), found(64, 9);
  backend->Upload(memory.data(), values.data(), 256);
  values.assign(64, 0);  // may be changed at once
  backend->Clear(memory.data() + 128, 128);
  backend->Copy(memory.data() + 256, memory.data(), 256);
  backend->Download(found.data(), memory.data() + 256, 256);
  EXPECT_EQ(found, std::vector<uint32_t>(64, 9));
  backend->Wait();
  std::vector<uint32_t> expected(64, 5);
  std::fill_n(expected.begin() + 32, 32, 0);
  EXPECT_EQ(found, expected);
}

// More than the pinned areas hold.
TEST_F(CudaBackendTest, LargeCopiesGoInPieces) {
  const size_t count = (size_t{40} << 20) / 4 + 3;
  std::vector<uint32_t> values(count), found(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<uint32_t>(i * 2654435761u);
  const Buffer large = backend->Allocate(4 * count, "a test");
  backend->Upload(large.data(), values.data(), 4 * count);
  backend->Download(found.data(), large.data(), 4 * count);
  backend->Wait();
  EXPECT_EQ(found, values);
}

TEST_F(CudaBackendTest, ALostDeviceIsLostForEveryCall) {
  std::vector<uint32_t> target(16, 7);
  backend->Download(target.data(), memory.data(), 64);
  script->lost = "the first message";
  ExpectLost("the failing Wait", [&] { backend->Wait(); });
  script->lost = "another message";
  const size_t calls = script->calls.size();
  ExpectLost("Wait", [&] { backend->Wait(); });
  ExpectLost("Section", [&] { backend->Section(); });
  ExpectLost("Allocate", [&] { backend->Allocate(64, "a test"); });
  ExpectLost("Upload", [&] { backend->Upload(memory.data(), target.data(), 64); });
  ExpectLost("Download", [&] { backend->Download(target.data(), memory.data(), 64); });
  ExpectLost("Copy", [&] { backend->Copy(memory.data(), memory.data() + 64, 64); });
  ExpectLost("Clear", [&] { backend->Clear(memory.data(), 64); });
  EXPECT_EQ(script->calls.size(), calls);
  EXPECT_EQ(target, std::vector<uint32_t>(16, 7));
}

}  // namespace
}  // namespace nextscale::cuda
