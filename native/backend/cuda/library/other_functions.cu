#include "native/backend/cuda/kernels/attention_kernel.h"
#include "native/backend/cuda/kernels/embed_kernel.h"
#include "native/backend/cuda/kernels/map_kernel.h"
#include "native/backend/cuda/kernels/norm_kernel.h"
#include "native/backend/cuda/kernels/sample_kernel.h"
#include "native/backend/cuda/library/global_functions.h"

namespace nextscale::cuda {
namespace {
NS_CUDA_OTHER_KERNELS(NS_GLOBAL)
}  // namespace

const void* OtherFunction(KernelId id) {
  switch (id) {
    NS_CUDA_OTHER_KERNELS(NS_FUNCTION_OF)
    default:
      return nullptr;
  }
}

}  // namespace nextscale::cuda
