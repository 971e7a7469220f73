#include "native/cache/kv_lease.h"

#include <algorithm>
#include <numeric>

#include "native/base/error.h"

namespace nextscale {

KvLease::KvLease(KvPool& pool, size_t num_blocks, size_t num_sequences, std::vector<size_t> tokens)
    : pool_(pool),
      num_sequences_(num_sequences),
      tokens_(std::move(tokens)),
      num_tokens_(std::accumulate(tokens_.begin(), tokens_.end(), size_t{0})),
      slots_(num_blocks * num_sequences * num_tokens_ * sizeof(uint32_t)),
      taken_(num_sequences * *std::max_element(tokens_.begin(), tokens_.end())),
      chains_(num_blocks * tokens_.size()),
      held_(num_blocks) {}

KvLease::~KvLease() {
  EndScale();
  for (size_t block_index = 0; block_index < held_.size(); ++block_index) DropBlock(block_index);
}

void KvLease::BeginScale(size_t scale_index, std::span<const uint32_t> blocks, bool keep_dropped) {
  if (!keep_dropped) {
    for (size_t block_index = 0; block_index < held_.size(); ++block_index) {
      const bool stays = std::binary_search(blocks.begin(), blocks.end(), static_cast<uint32_t>(block_index));
      if (!stays && held_[block_index] != 0) DropBlock(block_index);
    }
  }
  const size_t num_tokens = tokens_[scale_index];
  const bool last = scale_index + 1 == tokens_.size();
  if (last) {
    scratch_ = TakeRows(num_tokens);
    scratch_tokens_ = num_tokens;
  }
  for (uint32_t block_index : blocks) {
    if (!last) chains_[block_index * tokens_.size() + scale_index] = TakeRows(num_tokens);
    for (size_t sequence = 0; sequence < num_sequences_; ++sequence) {
      std::copy_n(taken_.data() + sequence * num_tokens, num_tokens, Row(block_index, sequence) + held_[block_index]);
    }
    if (!last) held_[block_index] += num_tokens;
  }
}

void KvLease::EndScale() {
  pool_.Return(scratch_);
  used_ -= scratch_.count;
  scratch_ = {};
  scratch_tokens_ = 0;
}

std::span<const uint32_t> KvLease::Slots(size_t block_index, size_t sequence) const {
  return {Row(block_index, sequence), held_[block_index] + scratch_tokens_};
}

void KvLease::DropBlock(size_t block_index) {
  for (size_t scale_index = 0; scale_index < tokens_.size(); ++scale_index) {
    KvChain& chain = chains_[block_index * tokens_.size() + scale_index];
    pool_.Return(chain);
    used_ -= chain.count;
    chain = {};
  }
  held_[block_index] = 0;
}

KvChain KvLease::TakeRows(size_t num_tokens) {
  const KvChain chain = pool_.Take(std::span(taken_).first(num_sequences_ * num_tokens));
  used_ += chain.count;
  return chain;
}

}  // namespace nextscale
