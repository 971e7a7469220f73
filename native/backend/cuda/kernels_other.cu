#include "native/backend/cuda/attention_kernel.h"
#include "native/backend/cuda/embed_kernel.h"
#include "native/backend/cuda/kernels.h"
#include "native/backend/cuda/map_kernel.h"
#include "native/backend/cuda/norm_kernel.h"
#include "native/backend/cuda/sample_kernel.h"

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
