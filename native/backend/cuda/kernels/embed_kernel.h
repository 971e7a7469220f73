// Embedding sums, conditions, and the loss of given tokens.
#pragma once

#include "native/backend/cuda/kernels/map_kernel.h"

namespace nextscale::cuda::NS_SIDE {

// One thread per number of the first branch (without starts), or of all rows.
NS_DEVICE void Embed(const Thread& thread, const EmbedCall& args) {
  const uint64_t index = GlobalIndex(thread), row = index / args.width;
  const uint32_t c = static_cast<uint32_t>(index % args.width), branch_rows = args.num_images * args.num_tokens;
  const bool starts = args.starts != nullptr;
  if (row >= uint64_t{branch_rows} * (starts ? args.num_branches : 1)) return;
  const uint64_t token = row % args.num_tokens;
  const float position = args.position[token * args.width + c];
  float* const x = args.x + row * args.stride + c;
  if (starts) {
    const uint64_t condition = static_cast<uint64_t>(args.conditions[row / args.num_tokens]);
    *x = args.starts[condition * args.width + c] + args.start_position[token * args.width + c] + position;
    return;
  }
  const float value = *x + position;
  *x = value;
  if (args.num_branches == 2) x[uint64_t{branch_rows} * args.stride] = value;
}

NS_DEVICE void Condition(const Thread& thread, const ConditionCall& args) {
  const uint64_t index = GlobalIndex(thread), row = index / args.width;
  const uint32_t c = static_cast<uint32_t>(index % args.width);
  if (row >= args.num) return;
  float x = 0.0f;
  for (uint64_t j = row * args.num_mixed; j < (row + 1) * args.num_mixed; ++j) {
    const float part = args.embedding[static_cast<uint64_t>(args.rows[j]) * args.width + c];
    x += args.weights == nullptr ? part : args.weights[j] * part;
  }
  args.start[index] = x;
  Store(args.vector_dtype, args.vector, index, x / (1.0f + Exp(-x)));
}

NS_DEVICE void AddOffset(const Thread& thread, const AddOffsetCall& args) {
  const uint64_t index = GlobalIndex(thread), row = index / args.width;
  const uint32_t c = static_cast<uint32_t>(index % args.width);
  if (row < args.num_rows) args.out[row * args.out_stride + c] = args.in[row * args.in_stride + c] + args.offset[c];
}

// f over the block: every thread gets the result. All threads call it.
template <typename F>
NS_DEVICE float BlockReduce(const Thread& thread, float x, LossShared& shared, const F& f) {
  for (int mask = 16; mask != 0; mask /= 2) x = f(x, thread.ShuffleXor(x, mask));
  if (thread.lane() == 0) shared.partial[thread.warp()] = x;
  thread.Sync();
  x = shared.partial[0];
  for (int warp = 1; warp < kLossThreads / 32; ++warp) x = f(x, shared.partial[warp]);
  thread.Sync();
  return x;
}

// One block per row, in two passes over it. The sum's terms are at most 1, and every thread's share is small.
NS_DEVICE void CrossEntropy(const Thread& thread, const CrossEntropyCall& args) {
  LossShared& shared = *reinterpret_cast<LossShared*>(thread.shared());
  const uint64_t row = thread.block_x();
  const float* const logits = args.logits + row * args.stride;
  const uint32_t self = static_cast<uint32_t>(thread.index());
  float largest = FloatFromBits(0xFF800000u), bad = 0.0f;
  for (uint32_t i = self; i < args.codebook_size; i += kLossThreads) {
    if ((FloatBits(logits[i]) & 0x7F800000u) == 0x7F800000u) bad = 1.0f;
    largest = logits[i] > largest ? logits[i] : largest;
  }
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  largest = BlockReduce(thread, largest, shared, larger);
  bad = BlockReduce(thread, bad, shared, larger);
  float sum = 0.0f;
  for (uint32_t i = self; i < args.codebook_size; i += kLossThreads) sum += Exp(logits[i] - largest);
  sum = BlockReduce(thread, sum, shared, [](float a, float b) { return a + b; });
  if (self != 0) return;
  args.losses[row] = bad != 0.0f ? FloatFromBits(0x7FC00000u) : largest + Log(sum) - logits[args.targets[row]];
}

}  // namespace nextscale::cuda::NS_SIDE
