// The machine that runs the kernels' twins: the rules that it enforces, each broken once.
//
// Fibers are ucontext's: Linux only, and not under the thread sanitizer, which does not follow them.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include <gtest/gtest.h>

#include "native/backend/cuda/kernels/sample_kernel.h"
#include "native/base/rng.h"
#include "test/native/ops/random.h"

namespace nextscale::cuda {
namespace {

using twin_side::Machine;
using twin_side::Thread;

TEST(CudaTwinMachine, UniformNumbersAreThoseOfTheCore) {
  nextscale::test::Random random(11);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t seed = random.Bits(), image = random.Bits();
    const uint32_t scale = static_cast<uint32_t>(random.Index(0, 20)), token = static_cast<uint32_t>(random.Bits());
    ASSERT_EQ(PhiloxUniform(seed, image, scale, token), UniformDraw(seed, image, scale, token));
  }
}

// The rules that the machine enforces, each broken once.
TEST(CudaTwinMachine, TheMachineSeesBrokenKernels) {
  Machine machine(1);
  const auto message = [&](const auto& kernel) -> std::string {
    try {
      machine.Launch({}, 64, 256, kernel);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([](Thread t) { t.Sync(); }), "");
  EXPECT_NE(message([](Thread t) {
              if (t.index() != 5) t.Sync();
            }).find("deadlock"),
            std::string::npos);
  EXPECT_NE(message([](Thread t) {
              if (t.lane() < 16)
                t.ShuffleXor(1.0f, 1);
              else
                t.SyncWarp();
            }).find("diverge"),
            std::string::npos);
  alignas(16) const unsigned char source[32] = {};
  EXPECT_NE(message([&](Thread t) { t.CopyAsync(t.shared(), source + 4, true); }).find("misaligned"),
            std::string::npos);
  EXPECT_NE(message([&](Thread t) { t.CopyAsync(t.shared() + 256, source, true); }).find("outside"), std::string::npos);
  EXPECT_NE(message([](Thread t) { t.shared()[256] = 1; }).find("past the end"), std::string::npos);
  // A copy that is not waited for reads as NaN.
  bool early = false;
  EXPECT_EQ(message([&](Thread t) {
              if (t.index() != 0) return;
              t.CopyAsync(t.shared(), source, true);
              t.CopyCommit();
              early = t.shared()[0] == 0xFF;
              t.CopyWait<0>();
              early = early && t.shared()[0] == 0;
            }),
            "");
  EXPECT_TRUE(early);
}

// What wgmma asks of a kernel, each broken once.
TEST(CudaTwinMachine, TheMachineSeesBrokenProducts) {
  enum Fault { kNone, kNoFence, kNoBegin, kNoCommit, kOverwritten, kMisaligned, kOtherTile };
  alignas(16) const unsigned char source[16] = {};
  size_t early = 0, wrong = 0;  // sums that stand before the wait, or do not stand after it
  const auto run = [&](Fault fault) -> std::string {
    Machine machine(1);
    early = wrong = 0;
    try {
      machine.Launch({}, 128, size_t{24} << 10, [&](Thread t) {
        unsigned char* const tile = t.shared();
        for (int i = t.index(); i < (24 << 10) / 16; i += 128) t.CopyAsync(tile + i * 16, source, true);
        t.CopyCommit();
        t.CopyWait<0>();
        if (fault != kNoFence || t.index() != 70) t.FenceForWgmma();
        t.Sync();
        float sums[64] = {};
        if (fault != kNoBegin) t.WgmmaBegin();
        const uint64_t a = t.TileDescriptor(tile + (fault == kMisaligned ? 512 : 0));
        const uint64_t b = t.TileDescriptor(tile + (8 << 10));
        t.Wgmma(twin_side::BF16{}, sums, a + (fault == kOtherTile && t.index() == 3 ? 2 : 0), b);
        for (const float sum : sums) early += std::isnan(sum) ? 0 : 1;
        if (fault == kOverwritten && t.index() == 0) tile[9 << 10] = 1;
        t.Sync();
        if (fault != kNoCommit) t.WgmmaCommit();
        t.WgmmaWait(sums);
        for (const float sum : sums) wrong += sum == 0.0f ? 0 : 1;
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(run(kNone), "");
  EXPECT_EQ(early, 0u);
  EXPECT_EQ(wrong, 0u);
  EXPECT_NE(run(kNoFence).find("no fence after its arrival"), std::string::npos);
  EXPECT_NE(run(kNoBegin).find("without a fence before"), std::string::npos);
  EXPECT_NE(run(kNoCommit).find("not committed"), std::string::npos);
  EXPECT_NE(run(kOverwritten).find("changed while"), std::string::npos);
  EXPECT_NE(run(kMisaligned).find("not 1024-byte aligned"), std::string::npos);
  EXPECT_NE(run(kOtherTile).find("different tiles"), std::string::npos);
}

// The rules of bulk copies, each broken once.
TEST(CudaTwinMachine, RulesOfBulkCopies) {
  enum Fault { kNone, kNoExpect, kTooManyBytes, kNotInitialised, kMisaligned, kPastTheEnd, kReadEarly };
  const std::vector<unsigned char> source(2048 + 16, 7);
  const unsigned char* const from = source.data() + (16 - reinterpret_cast<uintptr_t>(source.data()) % 16) % 16;
  size_t wrong = 0;
  const auto run = [&](Fault fault) -> std::string {
    wrong = 0;
    try {
      twin_side::Machine machine(5);
      machine.Launch({}, 64, 1024 + 16, [&](const twin_side::Thread& t) {
        auto* const barrier = reinterpret_cast<uint64_t*>(t.shared() + 1024);
        if (t.index() == 0 && fault != kNotInitialised) t.BarrierInit(barrier);
        t.Sync();
        for (uint32_t round = 0; round < 3; ++round) {  // phases 0, 1, 0
          if (t.index() == 0) {
            if (fault != kNoExpect) t.BarrierExpect(barrier, fault == kTooManyBytes ? 1040 : 1024);
            t.CopyBulk(t.shared() + (fault == kPastTheEnd ? 32 : 0), from + (fault == kMisaligned ? 8 : 0), 512,
                       barrier);
            t.CopyBulk(t.shared() + 512 + (fault == kPastTheEnd ? 32 : 0), from + 1024, 512, barrier);
          }
          if (fault == kReadEarly)
            t.Sync();
          else
            t.BarrierWait(barrier, round % 2);
          for (int i = t.index(); i < 1024; i += 64) wrong += t.shared()[i] == 7 ? 0 : 1;
          if (fault == kReadEarly) t.BarrierWait(barrier, round % 2);
          t.Sync();
        }
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(run(kNone), "");
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(run(kReadEarly), "");
  EXPECT_GT(wrong, 0u);
  EXPECT_NE(run(kNoExpect).find("deadlock"), std::string::npos);
  EXPECT_NE(run(kTooManyBytes).find("deadlock"), std::string::npos);
  EXPECT_NE(run(kNotInitialised).find("not initialised"), std::string::npos);
  EXPECT_NE(run(kMisaligned).find("misaligned"), std::string::npos);
  EXPECT_NE(run(kPastTheEnd).find("outside shared memory"), std::string::npos);
}

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
