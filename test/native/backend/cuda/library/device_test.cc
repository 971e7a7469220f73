// The op cases on a device, through the library of kernels. NEXTSCALE_CUDA_LIBRARY names it; without it, without a
// driver or without a device every test is skipped with the reason.
#include "native/backend/cuda/host/cuda_backend.h"
#include "test/native/backend/cuda/host/chip_device.h"
#include "test/native/backend/cuda/library/test_library.h"
#include "test/native/ops/op_cases.h"

namespace nextscale::cuda {
namespace {

using nextscale::test::Bench;
using nextscale::test::Chip;

class CudaDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    library_ = test::TestLibrary(&reason);
    if (library_ == nullptr) GTEST_SKIP() << reason;
    bench_.has_wgmma = true;  // where the chip has it
  }

  std::shared_ptr<Library> library_;
  Bench bench_{[this](DType dtype, const Chip& chip) {
                 return MakeCudaBackend(std::make_unique<test::ChipDevice>(library_->OpenDevice(0), chip), dtype);
               },
               {DType::kBF16, DType::kF16, DType::kF32},
               {.zero_padding = true, .separate_rounding = true}};
};

TEST_F(CudaDevice, Linear) { nextscale::test::LinearSuite(bench_, 300); }
TEST_F(CudaDevice, LinearRowsDoNotDependOnBatch) {
  for (const DType dtype : bench_.dtypes()) nextscale::test::CheckRowsDoNotDependOnBatch(bench_, dtype, 3);
}
TEST_F(CudaDevice, LinearOfReleasedSizes) {
  // d30: width 1920; rows of the first, a middle and the last scale of one image, both branches.
  for (const size_t m : {2, 128, 512}) {
    nextscale::test::CheckStore(bench_.At(DType::kBF16, 132), {m, 1920, 1920, DType::kBF16, DType::kBF16}, DType::kBF16,
                                m);
    nextscale::test::CheckStore(bench_.At(DType::kF16, 132), {m, 7680, 1920, DType::kF16, DType::kF16, Epilogue::kGelu},
                                DType::kF16, m);
    nextscale::test::CheckQkv(bench_.At(DType::kBF16, 132), {m, 30, 64, 1920, DType::kBF16, DType::kBF16}, m);
  }
}
TEST_F(CudaDevice, Qkv) { nextscale::test::QkvSuite(bench_); }
TEST_F(CudaDevice, Conv) { nextscale::test::ConvSuite(bench_); }
TEST_F(CudaDevice, Attention) {
  nextscale::test::AttentionSuite(bench_, 200);
  nextscale::test::AttentionRowSuite(bench_);
}
TEST_F(CudaDevice, AttentionOfReleasedSizes) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    nextscale::test::CheckAttention(bench_.At(dtype), {4, 64, dtype, dtype},
                                    {{256, 680, 256}, {256, 680, 256}, {1, 1, 0}, {4, 5, 0}, {169, 424, 0}}, 1);
    nextscale::test::CheckAttention(bench_.At(dtype), {2, 64, dtype, dtype}, {{1024, 2240, 1024}}, 2);
  }
}
TEST_F(CudaDevice, WideAttention) { nextscale::test::WideAttentionSuite(bench_); }
TEST_F(CudaDevice, Norms) { nextscale::test::NormSuite(bench_); }
TEST_F(CudaDevice, GroupNorm) { nextscale::test::GroupNormSuite(bench_); }
TEST_F(CudaDevice, Sample) { nextscale::test::SampleSuite(bench_, 300); }
TEST_F(CudaDevice, Latent) { nextscale::test::LatentSuite(bench_); }
TEST_F(CudaDevice, Embed) { nextscale::test::EmbedSuite(bench_); }
TEST_F(CudaDevice, CrossEntropy) { nextscale::test::LossSuite(bench_); }
TEST_F(CudaDevice, Pictures) { nextscale::test::PictureSuite(bench_); }

TEST_F(CudaDevice, OutOfMemoryIsAnErrorAndNothingElse) {
  Backend& backend = bench_.At(DType::kBF16);
  try {
    backend.Allocate(size_t{1} << 50, "a test");
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("a test"), std::string::npos);
  }
  nextscale::test::CheckStore(backend, {20, 24, 32, DType::kBF16, DType::kF32}, DType::kBF16, 1);
}

}  // namespace
}  // namespace nextscale::cuda
