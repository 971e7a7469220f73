// Every CUDA call is checked; a failure is an Error that names what was being done.
#pragma once

#include <cuda_runtime_api.h>

#include "native/base/error.h"

namespace nextscale::cuda {

// Out of memory is an error of its own: the device is still good. Any other may have poisoned the context; whoever owns
// the model must then discard it.
inline void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal;
  (void)cudaGetLastError();  // an error that is not sticky is forgotten
  throw Error(code, Message("CUDA: ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"));
}

// After a launch. Errors of the kernel's execution show at a later call, whatever that is.
inline void CheckLaunch(const char* kernel, const char* op) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) return;
  Check(status, Message("launch of ", kernel, " for ", op).c_str());
}

}  // namespace nextscale::cuda
