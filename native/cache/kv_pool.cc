#include "native/cache/kv_pool.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"

namespace nextscale {

KvPool::KvPool(Buffer rows, size_t row_bytes)
    : rows_(std::move(rows)),
      budget_bytes_(rows_.bytes()),
      row_bytes_(row_bytes),
      capacity_(std::min<size_t>(budget_bytes_ / row_bytes, kNone)),
      next_(capacity_ * sizeof(uint32_t)) {}

bool KvPool::Reserve(size_t slots) {
  if (slots > available()) return false;
  reserved_ += slots;
  return true;
}

void KvPool::Unreserve(size_t slots) {
  NS_CHECK(slots <= reserved_);
  reserved_ -= slots;
}

KvChain KvPool::Take(std::span<uint32_t> slots) {
  NS_CHECK(slots.size() <= capacity_ - used_);
  if (slots.empty()) return {};
  uint32_t* next = next_.as<uint32_t>();
  uint32_t previous = kNone;
  for (uint32_t& slot : slots) {  // a run of the free list is linked already; only its end and fresh slots are written
    if (free_ != kNone) {
      slot = free_;
      free_ = next[slot];
    } else {
      slot = untouched_++;
      if (previous != kNone) next[previous] = slot;
    }
    previous = slot;
  }
  next[previous] = kNone;
  used_ += slots.size();
  peak_ = std::max(peak_, used_);
  return {slots.front(), slots.back(), slots.size()};
}

void KvPool::Return(const KvChain& chain) {
  if (chain.count == 0) return;
  NS_CHECK(chain.count <= used_);
  next_.as<uint32_t>()[chain.last] = free_;
  free_ = chain.first;
  used_ -= chain.count;
}

}  // namespace nextscale
