// Owned device memory.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "native/backend/cuda/check.h"

namespace nextscale::cuda {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // At least 256-byte aligned; contents undefined. Throws kOutOfMemory. `what` names the use in the message.
  DeviceBuffer(size_t bytes, const char* what) : bytes_(bytes) {
    if (bytes != 0) Check(cudaMalloc(&data_, bytes), Message("allocating ", bytes, " bytes for ", what).c_str());
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) (void)cudaFree(data_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept { Swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    Swap(other);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return data_; }
  size_t size_bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void Swap(DeviceBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace nextscale::cuda
