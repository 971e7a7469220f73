// The kernels' sources, run on the CPU: every thread a fiber, tensor-core and copy instructions executed by their
// definitions. What this proves is the kernels' logic: index arithmetic, fragments, staging, barriers, masks, edges. What it
// cannot prove is that the instructions do what their definitions here say, or how fast they are.
//
// Fibers are ucontext's: Linux only, and not under the thread sanitizer, which does not follow them.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include <new>

#include "test/native/backend/cuda/suite.h"

namespace nextscale::cuda {
namespace {

using twin_side::BF16;
using twin_side::F16;
using twin_side::Machine;
using twin_side::Thread;

class TwinRunner {
 public:
  explicit TwinRunner(uint64_t seed) : machine_(seed) {}

  // Exactly as many bytes as there are, so that a sanitizer sees every step beside them.
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    blocks_.emplace_back(static_cast<unsigned char*>(::operator new(values.size() * sizeof(T), std::align_val_t{256})));
    std::memcpy(blocks_.back().get(), values.data(), values.size() * sizeof(T));
    return reinterpret_cast<T*>(blocks_.back().get());
  }
  template <typename T>
  std::vector<T> Download(const T* from, size_t count) const {
    return std::vector<T>(from, from + count);
  }

  void Linear(const LinearArgs& args, uint32_t num_multiprocessors) {
    CheckLinear(args);
    const LinearPath path = ChooseLinearPath(args, num_multiprocessors);
    if (path == LinearPath::kPlain) return Run(LinearLaunch(args, path), [&](Thread t) { twin_side::LinearPlain(t, args); });
    if (args.dtype == DType::kBF16) return LinearOn<BF16>(args, path);
    LinearOn<F16>(args, path);
  }
  void SplitHeads(const SplitHeadsArgs& args) {
    Run(SplitHeadsLaunch(args), [&](Thread t) { twin_side::SplitHeadsWarp(t, args); });
  }
  void Attention(const AttentionArgs& args) {
    CheckAttention(args);
    const AttentionPath path = ChooseAttentionPath(args);
    if (path == AttentionPath::kPlain) {
      return Run(AttentionLaunch(args, path), [&](Thread t) { twin_side::AttentionPlain(t, args); });
    }
    if (args.dtype == DType::kBF16) return AttentionOn<BF16>(args, path);
    AttentionOn<F16>(args, path);
  }
  void ModulatedNorm(const ModulatedNormArgs& args) {
    Run(ModulatedNormLaunch(args), [&](Thread t) { twin_side::ModulatedNormRow(t, args); });
  }
  void GroupNorm(const GroupNormArgs& args, void* workspace) {
    const GroupNormLaunches plan = PlanGroupNorm(args);
    auto* const moments = static_cast<Moments*>(workspace);
    auto* const gains = reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + plan.moments_bytes);
    Run(plan.moments, [&](Thread t) { twin_side::GroupMoments(t, args, moments); });
    Run(plan.gains, [&](Thread t) { twin_side::GroupGains(t, args, moments, gains); });
    Run(plan.apply, [&](Thread t) { twin_side::NormalizeMap(t, args, gains); });
  }
  void Sample(const SampleArgs& args) {
    CheckSample(args);
    Run(SampleLaunch(args), [&](Thread t) { twin_side::SampleToken(t, args); });
  }
  void GatherBicubic(const GatherBicubicArgs& args) {
    Run(MapLaunch(uint64_t{args.num_images} * args.out_side * args.out_side * args.channels),
        [&](Thread t) { twin_side::GatherBicubic(t, args); });
  }
  void ResidualConv(const ResidualConvArgs& args) {
    Run(MapLaunch(uint64_t{args.num_images} * args.side * args.side * args.channels),
        [&](Thread t) { twin_side::ResidualConv(t, args); });
  }
  void AreaDown(const AreaDownArgs& args) {
    Run(MapLaunch(uint64_t{args.num_images} * args.out_side * args.out_side * args.channels),
        [&](Thread t) { twin_side::AreaDown(t, args); });
  }

  Machine& machine() { return machine_; }

 private:
  struct Free {
    void operator()(unsigned char* block) const { ::operator delete(block, std::align_val_t{256}); }
  };

  template <typename Kernel>
  void Run(const Launch& launch, const Kernel& kernel) {
    machine_.Launch({launch.x, launch.y, launch.z}, static_cast<int>(launch.threads), launch.shared_bytes, kernel);
  }

  template <typename T>
  void LinearOn(const LinearArgs& args, LinearPath path) {
    const Launch launch = LinearLaunch(args, path);
    switch (path) {
      case LinearPath::kFewRows:
        return Run(launch, [&](Thread t) { twin_side::LinearFewRows<T, FewRowsShape<16>>(t, args); });
      case LinearPath::kFewRowsHeads:
        return Run(launch, [&](Thread t) { twin_side::LinearFewRows<T, FewRowsShape<64>>(t, args); });
      case LinearPath::kSmallTile:
        if (args.is_conv) return Run(launch, [&](Thread t) { twin_side::LinearTile<T, SmallTile, true>(t, args); });
        return Run(launch, [&](Thread t) { twin_side::LinearTile<T, SmallTile, false>(t, args); });
      default:
        if (args.is_conv) return Run(launch, [&](Thread t) { twin_side::LinearTile<T, LargeTile, true>(t, args); });
        return Run(launch, [&](Thread t) { twin_side::LinearTile<T, LargeTile, false>(t, args); });
    }
  }

  template <typename T>
  void AttentionOn(const AttentionArgs& args, AttentionPath path) {
    const Launch launch = AttentionLaunch(args, path);
    switch (path) {
      case AttentionPath::kOneWarp64:
        return Run(launch, [&](Thread t) { twin_side::AttentionTile<T, AttentionShape<64, 1>>(t, args); });
      case AttentionPath::kFourWarps64:
        return Run(launch, [&](Thread t) { twin_side::AttentionTile<T, AttentionShape<64, 4>>(t, args); });
      case AttentionPath::kOneWarp128:
        return Run(launch, [&](Thread t) { twin_side::AttentionTile<T, AttentionShape<128, 1>>(t, args); });
      default:
        return Run(launch, [&](Thread t) { twin_side::AttentionTile<T, AttentionShape<128, 4>>(t, args); });
    }
  }

  Machine machine_;
  std::vector<std::unique_ptr<unsigned char, Free>> blocks_;
};

TEST(CudaTwin, Linear) {
  TwinRunner runner(1);
  test::LinearSuite(runner, 30);
  EXPECT_EQ(runner.machine().bank_conflicts(), 0u);
}
TEST(CudaTwin, LinearRowsDoNotDependOnBatch) {
  TwinRunner runner(2);
  for (const DType dtype : test::kHalves) test::CheckRowsDoNotDependOnBatch(runner, dtype, 3);
}
TEST(CudaTwin, Qkv) {
  TwinRunner runner(3);
  test::QkvSuite(runner);
  EXPECT_EQ(runner.machine().bank_conflicts(), 0u);
}
TEST(CudaTwin, Conv) {
  TwinRunner runner(4);
  test::ConvSuite(runner);
}
TEST(CudaTwin, Attention) {
  TwinRunner runner(5);
  test::AttentionSuite(runner, 12);
  test::AttentionRowSuite(runner);
  EXPECT_EQ(runner.machine().bank_conflicts(), 0u);
}
TEST(CudaTwin, Norms) {
  TwinRunner runner(6);
  test::NormSuite(runner);
}
TEST(CudaTwin, Sample) {
  TwinRunner runner(7);
  test::SampleSuite(runner, 40);
}
TEST(CudaTwin, Latent) {
  TwinRunner runner(8);
  test::LatentSuite(runner);
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
            }).find("deadlock"), std::string::npos);
  EXPECT_NE(message([](Thread t) {
              if (t.lane() < 16) t.ShuffleXor(1.0f, 1);
              else t.SyncWarp();
            }).find("diverge"), std::string::npos);
  alignas(16) const unsigned char source[32] = {};
  EXPECT_NE(message([&](Thread t) { t.CopyAsync(t.shared(), source + 4, true); }).find("misaligned"), std::string::npos);
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
  }), "");
  EXPECT_TRUE(early);
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
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kFewRows);
  args.epilogue = LinearEpilogue::kQkv;
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kFewRowsHeads);
  args.epilogue = LinearEpilogue::kStore;
  args.num_rows = 200;
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kSmallTile);
  args.num_rows = 128 * 9;
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kLargeTile);  // 9 · 15 tiles
  args.a_stride = 1921;
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kPlain);
  args.a_stride = 1920;
  args.dtype = DType::kF32;
  EXPECT_EQ(ChooseLinearPath(args, 132), LinearPath::kPlain);
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
  attention.head_dim = 129;
  EXPECT_EQ(code([&] { CheckAttention(attention); }), ErrorCode::kInvalidArgument);
  SampleArgs sample;
  sample.codebook_size = kMaxCodebook + 1;
  EXPECT_EQ(code([&] { CheckSample(sample); }), ErrorCode::kInvalidArgument);
  const std::vector<RowSpan> gap = {{0, 0, 2, nullptr}, {3, 2, 1, nullptr}};
  EXPECT_EQ(code([&] { ExpandSpans(gap, 4); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([&] { ExpandSpans(std::span(gap).first(1), 3); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
