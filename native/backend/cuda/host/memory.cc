#include "native/backend/cuda/host/memory.h"

#include <algorithm>
#include <bit>

#include "native/base/error.h"

namespace nextscale::cuda {

size_t Memory::SizeClass(size_t bytes) {
  const size_t step = std::max<size_t>(256, std::bit_floor(bytes) / 32);
  return (bytes + step - 1) / step * step;
}

Memory::~Memory() { Trim(); }

Buffer Memory::Allocate(size_t bytes, const char* what) {
  if (bytes == 0) return Buffer();
  const size_t size = SizeClass(bytes);
  {
    std::lock_guard lock(mutex_);
    // The lowest address: buffers that come in the same order find the same places, in whatever order they went.
    const auto found = kept_.lower_bound({size, nullptr});
    if (found != kept_.end() && found->first == size) {
      std::byte* const data = found->second;
      kept_.erase(found);
      kept_bytes_ -= size;
      used_ += size;
      return Buffer(data, bytes, *this);
    }
  }
  std::byte* const data = static_cast<std::byte*>(device_.Allocate(size, what));
  std::lock_guard lock(mutex_);
  used_ += size;
  return Buffer(data, bytes, *this);
}

void Memory::Trim() {
  std::lock_guard lock(mutex_);
  for (const auto& [size, data] : kept_) device_.Free(data);
  kept_.clear();
  kept_bytes_ = 0;
}

void Memory::Release(std::byte* data, size_t bytes) noexcept {
  if (data == nullptr) return;
  const size_t size = SizeClass(bytes);
  std::lock_guard lock(mutex_);
  used_ -= size;
  try {
    kept_.emplace(size, data);
    kept_bytes_ += size;
  } catch (const std::bad_alloc&) {
    device_.Free(data);
  }
}

size_t Memory::used_bytes() const {
  std::lock_guard lock(mutex_);
  return used_;
}
size_t Memory::kept_bytes() const {
  std::lock_guard lock(mutex_);
  return kept_bytes_;
}

}  // namespace nextscale::cuda
