#include "native/backend/cuda/kernels.h"
#include "native/backend/cuda/linear_kernel.h"

namespace nextscale::cuda {
namespace {
NS_CUDA_LINEAR_KERNELS(NS_GLOBAL)
}  // namespace

const void* LinearFunction(KernelId id) {
  switch (id) {
    NS_CUDA_LINEAR_KERNELS(NS_FUNCTION_OF)
    default:
      return nullptr;
  }
}

}  // namespace nextscale::cuda
