// The trial of a device before a model runs on it: a sound one passes, one that computes wrongly is named with its op.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include "native/backend/cuda/host/self_check.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "native/backend/cpu/cpu_backend.h"
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/twin/device.h"

namespace nextscale::cuda {
namespace {

// What the check says of a twin; empty when nothing.
std::string Verdict(DType dtype, const std::shared_ptr<TwinControl>& control) {
  CpuBackend cpu(1);
  const std::unique_ptr<Backend> backend = MakeCudaBackend(std::make_unique<TwinDevice>(control), dtype);
  try {
    SelfCheck(*backend, cpu, 2);
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kDeviceUnavailable || error.code() == ErrorCode::kDeviceLost);
    return error.what();
  }
  return "";
}

TEST(CudaSelfCheck, ASoundDevicePassesInEveryFormat) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    EXPECT_EQ(Verdict(dtype, std::make_shared<TwinControl>()), "") << DTypeName(dtype);
  }
}

// A kernel that does nothing stands for one that computes wrongly; every single one is missed.
TEST(CudaSelfCheck, AKernelThatDoesNotWorkIsNamed) {
  auto count = std::make_shared<TwinControl>();
  ASSERT_EQ(Verdict(DType::kBF16, count), "");
  for (size_t launch = 0; launch < count->launches; ++launch) {
    auto control = std::make_shared<TwinControl>();
    control->skip_launch = launch;
    const std::string verdict = Verdict(DType::kBF16, control);
    EXPECT_NE(verdict.find("computes wrongly"), std::string::npos) << launch << ": " << verdict;
  }
}

TEST(CudaSelfCheck, AFailureIsPassedOn) {
  auto control = std::make_shared<TwinControl>();
  control->fail_at_launch = 2;
  EXPECT_NE(Verdict(DType::kBF16, control).find("planted failure"), std::string::npos);
}

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
