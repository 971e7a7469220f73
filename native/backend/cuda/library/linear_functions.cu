#include "native/backend/cuda/kernels/linear_kernel.h"
#include "native/backend/cuda/library/global_functions.h"

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
