// Numbers of the host in a device's memory.
#pragma once

#include <vector>

#include "native/ops/backend.h"

namespace nextscale {

inline Buffer UploadFloats(Backend& backend, const std::vector<float>& values, const char* what) {
  Buffer buffer = backend.Allocate(values.size() * sizeof(float), what);
  backend.Upload(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}

}  // namespace nextscale
