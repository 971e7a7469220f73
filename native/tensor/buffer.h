// Owning, 64-byte aligned, zeroed memory. Large buffers are mapped and ask for huge pages; pages that were never written
// cost no resident memory.
#pragma once

#include <cstddef>
#include <utility>

namespace nextscale {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);  // throws Error(kOutOfMemory)
  ~Buffer();
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace nextscale
