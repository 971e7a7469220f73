// The kernels' sources, run on the CPU: every thread a fiber, tensor-core and copy instructions executed by their
// definitions. What this proves is the kernels' logic: index arithmetic, fragments, staging, barriers, masks, edges.
// What it cannot prove is that the instructions do what their definitions here say, or how fast they are.
//
// Fibers are ucontext's: Linux only, and not under the thread sanitizer, which does not follow them.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include "native/backend/cuda/convert.h"
#include "native/backend/cuda/twin/device.h"
#include "test/native/backend/cuda/suite.h"

namespace nextscale::cuda {
namespace {

using test::Runner;
using twin_side::Machine;
using twin_side::Thread;

// A runner over the twin, and what the twin has counted.
struct Twin {
  explicit Twin(uint64_t seed) : control(std::make_shared<TwinControl>()) {
    control->seed = seed;
    auto device = std::make_unique<TwinDevice>(control);
    twin = device.get();
    runner = std::make_unique<Runner>(std::move(device));
  }
  std::shared_ptr<TwinControl> control;
  TwinDevice* twin;
  std::unique_ptr<Runner> runner;
};

// Also by wgmma (capability 9): the same tile, other instructions.
TEST(CudaTwin, LinearWide) {
  Twin twin(21);
  ASSERT_TRUE(twin.runner->has_wgmma);
  test::LinearSuite(*twin.runner, 24);
  test::QkvSuite(*twin.runner);
  test::ConvSuite(*twin.runner);
}
TEST(CudaTwin, Linear) {
  Twin twin(1);
  twin.runner->has_wgmma = false;
  test::LinearSuite(*twin.runner, 30);
  EXPECT_EQ(twin.twin->bank_conflicts(), 0u);
}
TEST(CudaTwin, LinearRowsDoNotDependOnBatch) {
  Twin twin(2);
  for (const DType dtype : test::kHalves) test::CheckRowsDoNotDependOnBatch(*twin.runner, dtype, 3);
}
TEST(CudaTwin, Qkv) {
  Twin twin(3);
  twin.runner->has_wgmma = false;
  test::QkvSuite(*twin.runner);
  EXPECT_EQ(twin.twin->bank_conflicts(), 0u);
}
TEST(CudaTwin, Conv) {
  Twin twin(4);
  twin.runner->has_wgmma = false;
  test::ConvSuite(*twin.runner);
}
TEST(CudaTwin, Attention) {
  Twin twin(5);
  test::AttentionSuite(*twin.runner, 12);
  test::AttentionRowSuite(*twin.runner);
  EXPECT_EQ(twin.twin->bank_conflicts(), 0u);
}
TEST(CudaTwin, Norms) {
  Twin twin(6);
  test::NormSuite(*twin.runner);
}
TEST(CudaTwin, Sample) {
  Twin twin(7);
  test::SampleSuite(*twin.runner, 40);
}
TEST(CudaTwin, Latent) {
  Twin twin(8);
  test::LatentSuite(*twin.runner);
}

TEST(CudaTwin, WideAttention) {
  Twin twin(9);
  test::WideAttentionSuite(*twin.runner);
}
TEST(CudaTwin, Embed) {
  Twin twin(10);
  test::EmbedSuite(*twin.runner);
}
TEST(CudaTwin, CrossEntropy) {
  Twin twin(11);
  test::LossSuite(*twin.runner);
}
TEST(CudaTwin, Tokenizer) {
  Twin twin(12);
  test::TokenizerSuite(*twin.runner);
}

TEST(CudaTwin, UniformNumbersAreThoseOfTheCore) {
  test::Random random(11);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t seed = random.Bits(), image = random.Bits();
    const uint32_t scale = random.Index(0, 20), token = static_cast<uint32_t>(random.Bits());
    ASSERT_EQ(PhiloxUniform(seed, image, scale, token), UniformDraw(seed, image, scale, token));
  }
}

// The rules that the machine enforces, each broken once.
TEST(CudaTwin, TheMachineSeesBrokenKernels) {
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
TEST(CudaTwin, TheMachineSeesBrokenProducts) {
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
TEST(CudaTwin, RulesOfBulkCopies) {
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

// Each number of packed weights is where a kernel looks for it, and the padding is zeros.
TEST(CudaPlan, PacksWeights) {
  for (const auto& [n, k] : {std::pair<uint32_t, uint32_t>{1, 1}, {64, 64}, {65, 72}, {130, 200}, {3, 61}}) {
    std::vector<uint16_t> rows(size_t{n} * k), tiles(WeightBytes(n, k, DType::kF16) / 2, 0xFFFF);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint16_t>(i % 65535 + 1);
    for (uint32_t first = 0; first < n; first += kWeightTile) {
      PackTiles(reinterpret_cast<const std::byte*>(rows.data() + size_t{first} * k), std::min(kWeightTile, n - first),
                k, reinterpret_cast<std::byte*>(tiles.data()) + WeightPiece(first, 0, k));
    }
    for (uint32_t column = 0; column < WeightTiles(n) * kWeightTile; ++column) {
      for (uint32_t i = 0; i < WeightTiles(k) * kWeightTile; ++i) {
        const uint16_t expected = column < n && i < k ? rows[size_t{column} * k + i] : 0;
        ASSERT_EQ(tiles[WeightPiece(column, i, k) / 2 + i % 8], expected) << column << ", " << i;
      }
    }
  }
}

TEST(CudaPlan, ChoosesPaths) {
  alignas(16) unsigned char memory[16];
  LinearArgs args;
  args.dtype = DType::kBF16;
  args.out = memory;
  args.a = args.weights = memory;
  args.num_rows = 16;
  args.n = args.out_stride = 1920;
  args.k = args.a_stride = 1920;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kRows16);
  args.num_rows = 17;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kRows32);
  args.epilogue = LinearEpilogue::kQkv;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kHeads32);
  args.num_rows = 16;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kHeads16);
  args.num_rows = 33;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kSmallTile);  // whole heads
  args.epilogue = LinearEpilogue::kStore;
  args.num_rows = 256;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kNarrowTile);  // 4 · 30 small tiles
  args.num_rows = 257;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kSmallTile);
  args.num_rows = 128 * 9;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kLargeTile);  // 9 · 15 tiles
  EXPECT_EQ(ChooseLinearPath(args, {132, true}), LinearPath::kWide);
  EXPECT_EQ(ChooseLinearPath(args, {132, false}), LinearPath::kLargeTile);  // wgmma is not there any more
  args.a_stride = 1921;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kPlain);
  args.a_stride = 1920;
  args.dtype = DType::kF32;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kPlain);
}

TEST(CudaPlan, RefusesWhatNoKernelTakes) {
  const auto code = [](const auto& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kAborted;
  };
  alignas(16) unsigned char memory[16];
  LinearArgs args;
  args.out = memory;
  args.a = args.weights = memory;
  args.num_rows = 1;
  args.n = args.k = args.a_stride = args.out_stride = 8;
  EXPECT_NO_THROW(CheckLinear(args));
  args.a_stride = 7;
  EXPECT_EQ(code([&] { CheckLinear(args); }), ErrorCode::kInvalidArgument);
  args.a_stride = 8;
  args.epilogue = LinearEpilogue::kResidual;
  EXPECT_EQ(code([&] { CheckLinear(args); }), ErrorCode::kInvalidArgument);
  args.epilogue = LinearEpilogue::kQkv;
  EXPECT_EQ(code([&] { CheckLinear(args); }), ErrorCode::kInvalidArgument);
  AttentionArgs attention;
  attention.head_dim = 1025;
  EXPECT_EQ(code([&] { CheckAttention(attention); }), ErrorCode::kInvalidArgument);
  SampleArgs sample;
  sample.codebook_size = kMaxCodebook + 1;
  EXPECT_EQ(code([&] { CheckSample(sample); }), ErrorCode::kInvalidArgument);
  const std::vector<RowSpan> gap = {{0, 0, 2, nullptr}, {3, 2, 1, nullptr}};
  RowTableData rows;
  EXPECT_EQ(code([&] { rows.Build(gap, 4); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([&] { rows.Build(std::span(gap).first(1), 3); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
