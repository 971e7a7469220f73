// The library of kernels that tests on a device use: NEXTSCALE_CUDA_LIBRARY names it.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include "native/backend/cuda/host/kernel_library.h"
#include "native/base/error.h"

namespace nextscale::cuda::test {

// With a device 0 that can be used, or null and the reason.
inline std::shared_ptr<Library> TestLibrary(std::string* reason) {
  const char* const path = std::getenv("NEXTSCALE_CUDA_LIBRARY");
  if (path == nullptr) {
    *reason = "NEXTSCALE_CUDA_LIBRARY is not set";
    return nullptr;
  }
  try {
    std::shared_ptr<Library> library = Library::Open(path);
    library->OpenDevice(0);
    return library;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDeviceUnavailable) throw;
    *reason = error.what();
    return nullptr;
  }
}

}  // namespace nextscale::cuda::test
