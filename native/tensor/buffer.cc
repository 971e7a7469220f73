#include "native/tensor/buffer.h"

#include <sys/mman.h>

#include "native/base/error.h"

namespace nextscale {

Buffer::Buffer(size_t bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  NS_REQUIRE(memory != MAP_FAILED, ErrorCode::kOutOfMemory, "could not allocate ", bytes, " bytes");
#ifdef MADV_HUGEPAGE
  constexpr size_t kHugePage = size_t{2} << 20;
  if (bytes >= 2 * kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

Buffer::~Buffer() {
  if (source_ != nullptr) {
    source_->Release(data_, bytes_);
  } else if (data_ != nullptr) {
    munmap(data_, bytes_);
  }
}

}  // namespace nextscale
