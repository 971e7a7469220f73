#include "native/backend/cuda/check.h"
#include "native/backend/cuda/ops.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda {
namespace {

__global__ void __launch_bounds__(kSampleThreads) SampleKernel(const __grid_constant__ SampleArgs args) {
  device_side::SampleToken(device_side::Thread{}, args);
}

}  // namespace

void PrepareSample() {
  Check(cudaFuncSetAttribute(SampleKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(SampleSharedBytes(kMaxCodebook))),
        "raising the shared memory of the sample kernel");
}

void Sample(Stream stream, const SampleArgs& args) {
  CheckSample(args);
  if (args.num_tokens == 0 || args.num_images == 0) return;
  const Launch launch = SampleLaunch(args);
  SampleKernel<<<dim3(launch.x, launch.y), launch.threads, launch.shared_bytes, stream>>>(args);
  CheckLaunch("Sample", "sample");
}

}  // namespace nextscale::cuda
