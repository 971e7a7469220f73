// The cases on a device, through the library of kernels. NEXTSCALE_CUDA_LIBRARY names it; without it, without a driver
// or without a device every test is skipped with the reason.
#include "test/native/backend/cuda/suite.h"
#include "test/native/backend/cuda/test_library.h"

namespace nextscale::cuda {
namespace {

class CudaDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    const std::shared_ptr<Library> library = test::TestLibrary(&reason);
    if (library == nullptr) GTEST_SKIP() << reason;
    runner_ = std::make_unique<test::Runner>(library->OpenDevice(0));
  }
  std::unique_ptr<test::Runner> runner_;
};

TEST_F(CudaDevice, Linear) { test::LinearSuite(*runner_, 300); }
TEST_F(CudaDevice, LinearRowsDoNotDependOnBatch) {
  for (const DType dtype : test::kHalves) test::CheckRowsDoNotDependOnBatch(*runner_, dtype, 3);
}
TEST_F(CudaDevice, LinearOfReleasedSizes) {
  // d30: width 1920; rows of the first, a middle and the last scale of one image, both branches.
  for (const uint32_t m : {2u, 128u, 512u}) {
    test::CheckStore(*runner_, {m, 1920, 1920, DType::kBF16, DType::kBF16}, 132, m);
    test::CheckStore(*runner_, {m, 7680, 1920, DType::kF16, DType::kF16, LinearEpilogue::kGelu}, 132, m);
    test::CheckQkv(*runner_, m, 30, 64, 1920, DType::kBF16, DType::kBF16, true, true, 132, m);
  }
}
TEST_F(CudaDevice, Qkv) { test::QkvSuite(*runner_); }
TEST_F(CudaDevice, Conv) { test::ConvSuite(*runner_); }
TEST_F(CudaDevice, Attention) {
  test::AttentionSuite(*runner_, 200);
  test::AttentionRowSuite(*runner_);
}
TEST_F(CudaDevice, AttentionOfReleasedSizes) {
  for (const uint64_t seed : {1u, 2u}) {
    test::CheckAttentionCase(*runner_, 4, 64, test::kHalves[seed % 2], test::kHalves[seed % 2],
                             {{256, 680, 256}, {256, 680, 256}, {1, 1, 0}, {4, 5, 0}, {169, 424, 0}}, 0, seed);
    test::CheckAttentionCase(*runner_, 2, 64, test::kHalves[seed % 2], test::kHalves[seed % 2], {{1024, 2240, 1024}}, 0,
                             seed);
  }
}
TEST_F(CudaDevice, Norms) { test::NormSuite(*runner_); }
TEST_F(CudaDevice, Sample) { test::SampleSuite(*runner_, 300); }
TEST_F(CudaDevice, Latent) { test::LatentSuite(*runner_); }

TEST_F(CudaDevice, WideAttention) { test::WideAttentionSuite(*runner_); }
TEST_F(CudaDevice, Embed) { test::EmbedSuite(*runner_); }
TEST_F(CudaDevice, CrossEntropy) { test::LossSuite(*runner_); }
TEST_F(CudaDevice, Tokenizer) { test::TokenizerSuite(*runner_); }

TEST_F(CudaDevice, OutOfMemoryIsAnErrorAndNothingElse) {
  try {
    runner_->device().Allocate(size_t{1} << 50, "a test");
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("a test"), std::string::npos);
  }
  test::CheckStore(*runner_, {20, 24, 32, DType::kBF16, DType::kF32}, 1, 1);
}

}  // namespace
}  // namespace nextscale::cuda
