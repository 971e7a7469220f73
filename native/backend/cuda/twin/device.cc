// Every kernel of the list, compiled once for all tests that run twins. No part of the core.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include "native/backend/cuda/twin/device.h"

#include "native/backend/cuda/kernels/attention_kernel.h"
#include "native/backend/cuda/kernels/embed_kernel.h"
#include "native/backend/cuda/kernels/linear_kernel.h"
#include "native/backend/cuda/kernels/map_kernel.h"
#include "native/backend/cuda/kernels/norm_kernel.h"
#include "native/backend/cuda/kernels/sample_kernel.h"

namespace nextscale::cuda {

void TwinDevice::RunKernel(const Launch& launch, const std::byte* bytes, const twin_side::Machine::Grid& grid,
                           int threads) {
  switch (launch.kernel) {
#define NS_CALL(name, Args, most_threads, blocks, function)                                                           \
  case KernelId::k##name: {                                                                                           \
    using namespace twin_side;                                                                                        \
    Args args;                                                                                                        \
    NS_CHECK(launch.args_bytes == sizeof args && threads <= static_cast<int>(most_threads));                          \
    std::memcpy(&args, bytes, sizeof args);                                                                           \
    machine_.Launch(grid, threads, launch.shape.shared_bytes, [&](const Thread& thread) { function(thread, args); }); \
    return;                                                                                                           \
  }
    NS_CUDA_KERNELS(NS_CALL)
#undef NS_CALL
    case KernelId::kCount:
      break;
  }
  throw Error(ErrorCode::kInternal, "no such kernel");
}

}  // namespace nextscale::cuda

#endif  // __linux__
