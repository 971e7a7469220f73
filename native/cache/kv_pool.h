// The one memory that holds every running generation's keys and values.
//
// A slot is one row [K (C) | V (C)]: one token of one sequence in one block. Any free slot serves any need, so nothing
// can fragment. Slots taken together form a chain (a linked list through `next_`), which is given back in O(1) by
// splicing it onto the free list. Slots never taken cost no resident memory.
//
// Room is promised before it is taken: Reserve at admission, then Take within the promise cannot fail.
// Not synchronised: the engine calls it under its lock. Reading and writing rows needs no lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "native/tensor/buffer.h"

namespace nextscale {

// Slots that were taken together, and go back together.
struct KvChain {
  uint32_t first = 0, last = 0;
  size_t count = 0;  // 0: no slots, first and last mean nothing
};

class KvPool {
 public:
  // rows: memory of a device for budget_bytes / row_bytes rows.
  KvPool(Buffer rows, size_t row_bytes);

  size_t budget_bytes() const { return budget_bytes_; }
  size_t row_bytes() const { return row_bytes_; }
  size_t capacity() const { return capacity_; }  // in slots, as all below
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  size_t reserved() const { return reserved_; }
  size_t available() const { return capacity_ - reserved_; }
  std::byte* rows() const { return rows_.data(); }

  // False, and nothing changes, when the promise of `slots` more cannot be kept.
  bool Reserve(size_t slots);
  void Unreserve(size_t slots);

  // Takes slots.size() slots and writes their numbers. The caller holds a reservation for them.
  KvChain Take(std::span<uint32_t> slots);
  void Return(const KvChain& chain);  // O(1)

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFFu;

  Buffer rows_;  // [capacity, row_bytes]
  size_t budget_bytes_, row_bytes_, capacity_;
  Buffer next_;             // uint32 per slot: the slot after it in its chain or in the free list
  uint32_t free_ = kNone;   // head of the free list: slots that were used before, latest first
  uint32_t untouched_ = 0;  // slots from here on were never taken
  size_t used_ = 0, peak_ = 0, reserved_ = 0;
};

}  // namespace nextscale
