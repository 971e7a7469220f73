// Owning, 64-byte aligned, zeroed memory. Large buffers are mapped and ask for huge pages; pages that were never written
// cost no resident memory.
#pragma once

#include <cstddef>
#include <utility>

namespace nextscale {

// Where memory that is not the process's own comes from: a device.
class MemorySource {
 public:
  virtual void Release(std::byte* data, size_t bytes) noexcept = 0;  // any thread

 protected:
  ~MemorySource() = default;
};

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);  // throws Error(kOutOfMemory)
  // Takes over memory that goes back to its source; the host may not read it.
  Buffer(std::byte* data, size_t bytes, MemorySource& source) : data_(data), bytes_(bytes), source_(&source) {}
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
    std::swap(source_, other.source_);
  }
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  MemorySource* source_ = nullptr;
};

}  // namespace nextscale
