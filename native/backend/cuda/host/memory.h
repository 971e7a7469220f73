// Device memory that is kept when a buffer goes, for the next one of its size: generations come and go without a call
// of the driver, and find the same addresses again, so that their lists of launches are equal (graph_cache.h).
//
// Everything runs in one queue, so memory may be used again as soon as its last use was queued.
#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <utility>

#include "native/backend/cuda/host/device.h"
#include "native/tensor/buffer.h"

namespace nextscale::cuda {

class Memory final : public MemorySource {
 public:
  explicit Memory(Device& device) : device_(device) {}
  ~Memory();  // every buffer is back by then
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Throws kOutOfMemory when nothing of that size is kept and the device has no room: Trim may help.
  Buffer Allocate(size_t bytes, const char* what);
  // Gives back to the device what nobody uses. Only when nothing is queued.
  void Trim();
  void Release(std::byte* data, size_t bytes) noexcept override;  // any thread

  size_t used_bytes() const;  // as the device counts them, without what is kept
  size_t kept_bytes() const;

  // Sizes that share memory: at most 1/32 more than was asked for.
  static size_t SizeClass(size_t bytes);

 private:
  Device& device_;
  mutable std::mutex mutex_;
  std::set<std::pair<size_t, std::byte*>> kept_;  // size class, address
  size_t used_ = 0, kept_bytes_ = 0;
};

}  // namespace nextscale::cuda
