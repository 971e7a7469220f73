// __global__ functions of a list of kernels. Each .cu file has a part of the list, so that they compile side by side.
#pragma once

#include "native/backend/cuda/kernels/kernel_list.h"

namespace nextscale::cuda {

#define NS_GLOBAL(name, Args, threads, blocks, function)                                               \
  __global__ void __launch_bounds__(threads, blocks) name##Kernel(const __grid_constant__ Args args) { \
    using namespace device_side;                                                                       \
    function(Thread{}, args);                                                                          \
  }

#define NS_FUNCTION_OF(name, Args, threads, blocks, function) \
  case KernelId::k##name:                                     \
    return reinterpret_cast<const void*>(&name##Kernel);

// The function of a kernel of this part, or null.
const void* LinearFunction(KernelId id);
const void* OtherFunction(KernelId id);

}  // namespace nextscale::cuda
