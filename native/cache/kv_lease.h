// One generation's rows in the pool: which slots each block holds, for each sequence, in token order.
//
// Slot numbers live in one table that is allocated once, at admission; nothing is allocated between scales.
// BeginScale, EndScale and destruction change the pool and need the engine's lock; Slots may be read without it by the
// thread that calls those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/cache/kv_pool.h"
#include "native/tensor/buffer.h"

namespace nextscale {

class KvLease {
 public:
  // tokens: of every scale.
  KvLease(KvPool& pool, size_t num_blocks, size_t num_sequences, std::vector<size_t> tokens);
  ~KvLease();
  KvLease(const KvLease&) = delete;
  KvLease& operator=(const KvLease&) = delete;

  // Drops what blocks outside `blocks` (ascending) hold, unless they are kept, and takes this scale's rows for the
  // others. At the last scale one block's worth of scratch rows is taken, which all blocks share.
  void BeginScale(size_t scale_index, std::span<const uint32_t> blocks, bool keep_dropped);
  // Gives the scratch rows of the last scale back; otherwise does nothing.
  void EndScale();

  // Rows of one sequence in one block that runs the current scale: all that it holds, the current scale's last.
  std::span<const uint32_t> Slots(size_t block_index, size_t sequence) const;

  size_t used() const { return used_; }                      // slots, of all sequences
  const std::vector<size_t>& held() const { return held_; }  // per block: tokens cached, without the last scale
  KvPool& pool() const { return pool_; }

 private:
  void DropBlock(size_t block_index);
  KvChain TakeRows(size_t num_tokens);
  uint32_t* Row(size_t block_index, size_t sequence) const {
    return slots_.as<uint32_t>() + (block_index * num_sequences_ + sequence) * num_tokens_;
  }

  KvPool& pool_;
  size_t num_sequences_;
  std::vector<size_t> tokens_;
  size_t num_tokens_;
  Buffer slots_;                 // uint32 [block, sequence, token]
  std::vector<uint32_t> taken_;  // slots of one scale of one block, [sequence, token]
  std::vector<KvChain> chains_;  // [block, scale]
  KvChain scratch_;
  std::vector<size_t> held_;
  size_t scratch_tokens_ = 0, used_ = 0;
};

}  // namespace nextscale
