// The op cases on the kernels' sources, run on the CPU: every thread a fiber, tensor-core and copy instructions
// executed by their definitions. What this proves is the kernels' logic (index arithmetic, fragments, staging,
// barriers, masks, edges) and the backend's before them. What it cannot prove is that the instructions do what their
// definitions say, or how fast they are.
//
// Fibers are ucontext's: Linux only, and not under the thread sanitizer, which does not follow them.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/twin/device.h"
#include "test/native/backend/cuda/host/chip_device.h"
#include "test/native/ops/op_cases.h"

namespace nextscale::cuda {
namespace {

using nextscale::test::Bench;
using nextscale::test::Chip;

class CudaTwin : public ::testing::Test {
 protected:
  // That these kernels have run, in bf16 and f16 where there are two.
  void ExpectRan(const std::vector<KernelId>& kernels) {
    for (const KernelId kernel : kernels) {
      EXPECT_TRUE(control_->kernels.contains(kernel)) << KernelName(kernel) << " has not run";
    }
  }

  std::shared_ptr<TwinControl> control_ = std::make_shared<TwinControl>();
  Bench bench_{[this](DType dtype, const Chip& chip) {
                 ++control_->seed;
                 auto device = std::make_unique<TwinDevice>(control_);
                 return MakeCudaBackend(std::make_unique<test::ChipDevice>(std::move(device), chip), dtype);
               },
               {DType::kBF16, DType::kF16, DType::kF32},
               {.zero_padding = true, .separate_rounding = true}};
};

using enum KernelId;

// By wgmma (sm_90a): the same tile, other instructions.
TEST_F(CudaTwin, LinearWide) {
  bench_.has_wgmma = true;
  nextscale::test::LinearSuite(bench_, 24);
  nextscale::test::QkvSuite(bench_);
  nextscale::test::ConvSuite(bench_);
  ExpectRan({kLinearWideBF16, kLinearWideF16, kConvWideBF16, kConvWideF16});
}
TEST_F(CudaTwin, Linear) {
  nextscale::test::LinearSuite(bench_, 40);
  EXPECT_EQ(control_->bank_conflicts, 0u);
  ExpectRan({kLinearLargeBF16, kLinearLargeF16, kLinearSmallBF16, kLinearSmallF16, kLinearNarrowBF16, kLinearNarrowF16,
             kLinearPlain});
}
TEST_F(CudaTwin, LinearRowsDoNotDependOnBatch) {
  bench_.has_wgmma = true;
  for (const DType dtype : bench_.dtypes()) nextscale::test::CheckRowsDoNotDependOnBatch(bench_, dtype, 3);
  ExpectRan({kLinearWideBF16, kLinearWideF16, kLinearLargeBF16, kLinearLargeF16, kLinearSmallBF16, kLinearSmallF16,
             kLinearNarrowBF16, kLinearNarrowF16, kLinearPlain});
}
TEST_F(CudaTwin, Qkv) {
  nextscale::test::QkvSuite(bench_);
  EXPECT_EQ(control_->bank_conflicts, 0u);
  ExpectRan({kLinearLargeBF16, kLinearLargeF16, kLinearSmallBF16, kLinearSmallF16, kSplitHeads});
}
TEST_F(CudaTwin, Conv) {
  nextscale::test::ConvSuite(bench_);
  ExpectRan({kConvLargeBF16, kConvLargeF16, kConvSmallBF16, kConvSmallF16, kConvNarrowBF16, kConvNarrowF16,
             kNormalizeMap, kLinearPlain});
}
TEST_F(CudaTwin, Attention) {
  nextscale::test::AttentionSuite(bench_, 24);
  nextscale::test::AttentionRowSuite(bench_);
  EXPECT_EQ(control_->bank_conflicts, 0u);
  ExpectRan({kAttentionOneWarp64BF16, kAttentionOneWarp64F16, kAttentionFourWarps64BF16, kAttentionFourWarps64F16,
             kAttentionOneWarp128BF16, kAttentionOneWarp128F16, kAttentionFourWarps128BF16, kAttentionFourWarps128F16,
             kAttentionPlain});
}
TEST_F(CudaTwin, WideAttention) {
  nextscale::test::WideAttentionSuite(bench_);
  ExpectRan({kAttentionWide});
}
TEST_F(CudaTwin, Norms) {
  nextscale::test::NormSuite(bench_);
  ExpectRan({kModulatedNorm512, kModulatedNorm1024, kModulatedNorm1536, kModulatedNorm1920, kModulatedNorm2304,
             kModulatedNormPlain});
}
TEST_F(CudaTwin, GroupNorm) { nextscale::test::GroupNormSuite(bench_); }
TEST_F(CudaTwin, Sample) { nextscale::test::SampleSuite(bench_, 40); }
TEST_F(CudaTwin, Latent) { nextscale::test::LatentSuite(bench_); }
TEST_F(CudaTwin, Embed) { nextscale::test::EmbedSuite(bench_); }
TEST_F(CudaTwin, CrossEntropy) { nextscale::test::LossSuite(bench_); }
TEST_F(CudaTwin, Pictures) { nextscale::test::PictureSuite(bench_); }

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
