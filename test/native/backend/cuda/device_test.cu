// The same cases on a device. Without one every test is skipped with the reason.
#include "native/backend/cuda/device_buffer.h"
#include "native/backend/cuda/ops.h"
#include "test/native/backend/cuda/suite.h"

namespace nextscale::cuda {
namespace {

class DeviceRunner {
 public:
  DeviceRunner() {
    int device = 0;
    Check(cudaGetDevice(&device), "cudaGetDevice");
    PrepareLinear();
    PrepareAttention();
    PrepareSample();
  }

  template <typename T>
  T* Upload(const std::vector<T>& values) {
    buffers_.emplace_back(values.size() * sizeof(T), "a test");
    Check(cudaMemcpy(buffers_.back().data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
    return buffers_.back().as<T>();
  }
  template <typename T>
  std::vector<T> Download(const T* from, size_t count) const {
    std::vector<T> values(count);
    Check(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return values;
  }

  void Linear(const LinearArgs& args, uint32_t num_multiprocessors) { Done(cuda::Linear, args, num_multiprocessors); }
  void SplitHeads(const SplitHeadsArgs& args) { Done(cuda::SplitHeads, args); }
  void Attention(const AttentionArgs& args) { Done(cuda::Attention, args); }
  void ModulatedNorm(const ModulatedNormArgs& args) { Done(cuda::ModulatedNorm, args); }
  void GroupNorm(const GroupNormArgs& args, void* workspace) { Done(cuda::GroupNorm, args, workspace); }
  void Sample(const SampleArgs& args) { Done(cuda::Sample, args); }
  void GatherBicubic(const GatherBicubicArgs& args) { Done(cuda::GatherBicubic, args); }
  void ResidualConv(const ResidualConvArgs& args) { Done(cuda::ResidualConv, args); }
  void AreaDown(const AreaDownArgs& args) { Done(cuda::AreaDown, args); }

 private:
  template <typename Op, typename... Args>
  void Done(const Op& op, const Args&... args) {
    op(nullptr, args...);
    Check(cudaDeviceSynchronize(), "running a test's op");
  }

  std::vector<DeviceBuffer> buffers_;
};

class CudaDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
      GTEST_SKIP() << "no CUDA device: " << (status == cudaSuccess ? "none found" : cudaGetErrorString(status));
    }
    runner_ = std::make_unique<DeviceRunner>();
  }
  std::unique_ptr<DeviceRunner> runner_;
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

TEST_F(CudaDevice, OutOfMemoryIsAnErrorAndNothingElse) {
  try {
    const DeviceBuffer buffer(size_t{1} << 50, "a test");
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("a test"), std::string::npos);
  }
  test::CheckStore(*runner_, {20, 24, 32, DType::kBF16, DType::kF32}, 1, 1);
}

}  // namespace
}  // namespace nextscale::cuda
