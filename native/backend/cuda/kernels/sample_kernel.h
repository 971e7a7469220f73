// Guidance, top-k, top-p and the draw of one token, by one block of 256 threads, without sorting.
//
// Thresholds are found by descending through the digits of the logits' sort keys, four times 256 bins. Weights are
// summed as integers in units of 2^-42 (the largest weight is 1), so that sums are exact and do not depend on their
// order.
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda {

// As UniformDraw in native/base/rng.h; the twin's test holds the two together.
NS_HOST_DEVICE double PhiloxUniform(uint64_t seed, uint64_t image, uint32_t scale_index, uint32_t token_index) {
  uint32_t counter[4] = {token_index, scale_index, static_cast<uint32_t>(image), static_cast<uint32_t>(image >> 32)};
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter[0] = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    counter[2] = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[1] = static_cast<uint32_t>(product1);
    counter[3] = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const uint64_t bits = (uint64_t{counter[0]} << 21) ^ (uint64_t{counter[1]} >> 11);
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace nextscale::cuda

namespace nextscale::cuda::NS_SIDE {

// Orders like the logits; −0 and 0 are equal.
NS_DEVICE uint32_t SortKey(float logit) {
  const uint32_t bits = FloatBits(logit == 0.0f ? 0.0f : logit);
  return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}
NS_DEVICE float LogitOfKey(uint32_t key) { return FloatFromBits(key ^ ((key >> 31) != 0 ? 0x80000000u : 0xFFFFFFFFu)); }

// e^(logit − largest) in units of 2^-42.
NS_DEVICE uint64_t FixedWeight(float logit, float largest) {
  return static_cast<uint64_t>(Exp(Subtract(logit, largest)) * 0x1p42f);
}

// Adds a weight, at most 2^42, to the sum of a bin. The sum stands in three numbers of 32 bits, to which 14 bits of
// every weight go each (and the 43rd to the last): a block adds at most kMaxCodebook = 2^14 weights, so none of them
// runs over. Shared memory adds 32 bits at once, and 64 by comparing and trying again.
static_assert(kMaxCodebook == 1u << 14);
NS_DEVICE void AddWeight(const Thread& thread, SampleShared& shared, uint32_t bin, uint64_t weight) {
  const uint32_t low = static_cast<uint32_t>(weight) & 0x3FFF, middle = static_cast<uint32_t>(weight >> 14) & 0x3FFF;
  const uint32_t high = static_cast<uint32_t>(weight >> 28);
  if (low != 0) thread.AtomicAdd(&shared.limbs[0][bin], low);
  if (middle != 0) thread.AtomicAdd(&shared.limbs[1][bin], middle);
  if (high != 0) thread.AtomicAdd(&shared.limbs[2][bin], high);
}
NS_DEVICE uint64_t SumOf(const SampleShared& shared, uint32_t bin) {
  return shared.limbs[0][bin] + (uint64_t{shared.limbs[1][bin]} << 14) + (uint64_t{shared.limbs[2][bin]} << 28);
}

// Σ over the threads up to and including this one. All 256 threads call it.
NS_DEVICE uint64_t InclusiveScan(const Thread& thread, uint64_t x, SampleShared& shared) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint64_t other = thread.ShuffleUp(x, distance);
    if (thread.lane() >= distance) x += other;
  }
  if (thread.lane() == 31) shared.warp_sums[thread.warp()] = x;
  thread.Sync();
  for (int warp = 0; warp < thread.warp(); ++warp) x += shared.warp_sums[warp];
  thread.Sync();
  return x;
}

// The key of the k-th largest logit.
NS_DEVICE uint32_t KthLargestKey(const Thread& thread, const float* row, uint32_t count, uint32_t k,
                                 SampleShared& shared) {
  const uint32_t self = static_cast<uint32_t>(thread.index());
  uint32_t prefix = 0, remaining = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    shared.counts[self] = 0;
    thread.Sync();
    for (uint32_t i = self; i < count; i += kSampleThreads) {
      const uint32_t key = SortKey(row[i]);
      if (shift == 24 || key >> (shift + 8) == prefix) thread.AtomicAdd(&shared.counts[key >> shift & 255], 1u);
    }
    thread.Sync();
    const uint32_t here = shared.counts[255 - self];  // from the largest digit down
    const uint64_t through = InclusiveScan(thread, here, shared);
    if (through >= remaining && through - here < remaining) {
      shared.digit = 255 - self;
      shared.remaining = remaining - static_cast<uint32_t>(through - here);
    }
    thread.Sync();
    prefix = prefix << 8 | shared.digit;
    remaining = shared.remaining;
    thread.Sync();
  }
  return prefix;
}

// Top-p: of the logits with keys >= threshold, in ascending order (of equal ones the first index first), those go whose
// cumulative weight is <= limit. `key`: the first that stays; `ties`: how many of that key go. The largest stays.
struct Boundary {
  uint32_t key, ties;
};
NS_DEVICE Boundary FindBoundary(const Thread& thread, const float* row, uint32_t count, uint32_t threshold,
                                uint32_t max_key, double limit, SampleShared& shared) {
  const uint32_t self = static_cast<uint32_t>(thread.index());
  const float largest = LogitOfKey(max_key);
  uint32_t prefix = 0;
  uint64_t below = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (uint32_t limb = 0; limb < 3; ++limb) shared.limbs[limb][self] = 0;
    shared.counts[self] = 0;
    if (self == 0) shared.found = 0;
    thread.Sync();
    for (uint32_t i = self; i < count; i += kSampleThreads) {
      const uint32_t key = SortKey(row[i]);
      if (key < threshold || (shift != 24 && key >> (shift + 8) != prefix)) continue;
      AddWeight(thread, shared, key >> shift & 255, FixedWeight(row[i], largest));
      thread.AtomicAdd(&shared.counts[key >> shift & 255], 1u);
    }
    thread.Sync();
    const uint64_t here = SumOf(shared, self), through = below + InclusiveScan(thread, here, shared);
    if (static_cast<double>(through) > limit && !(static_cast<double>(through - here) > limit)) {
      shared.found = 1;
      shared.digit = self;
      shared.below = through - here;
    }
    thread.Sync();
    // Rounding may put the limit at the whole sum: then everything goes but the largest.
    if (shared.found == 0 && self == (max_key >> shift & 255)) {
      shared.digit = self;
      shared.below = through - here;
    }
    thread.Sync();
    prefix = prefix << 8 | shared.digit;
    below = shared.below;
    thread.Sync();
  }
  const uint32_t num_equal = shared.counts[prefix & 255];
  const uint64_t weight = FixedWeight(LogitOfKey(prefix), largest);
  const double room = limit - static_cast<double>(below);
  uint64_t ties = room > 0.0 && weight != 0 ? static_cast<uint64_t>(room) / weight : 0;
  if (ties >= num_equal) ties = num_equal - 1;
  return {prefix, static_cast<uint32_t>(ties)};
}

// Inverse of the cumulative distribution over what is left, in index order.
NS_DEVICE void Draw(const Thread& thread, const float* row, uint32_t count, Boundary boundary, uint32_t max_key,
                    double u, SampleShared& shared) {
  const uint32_t self = static_cast<uint32_t>(thread.index());
  const uint32_t share = DivideUp(count, kSampleThreads);
  const uint32_t first = self * share < count ? self * share : count;
  const uint32_t last = first + share < count ? first + share : count;
  const float largest = LogitOfKey(max_key);
  uint32_t equal = 0;
  for (uint32_t i = first; i < last; ++i) equal += SortKey(row[i]) == boundary.key ? 1 : 0;
  const uint32_t equal_before = static_cast<uint32_t>(InclusiveScan(thread, equal, shared)) - equal;
  const auto weight_at = [&](uint32_t i, uint32_t& rank) -> uint64_t {
    const uint32_t key = SortKey(row[i]);
    if (key < boundary.key) return 0;
    if (key == boundary.key && rank++ < boundary.ties) return 0;
    return FixedWeight(row[i], largest);
  };
  uint64_t sum = 0;
  uint32_t rank = equal_before, last_left = 0;
  for (uint32_t i = first; i < last; ++i) {
    const uint64_t weight = weight_at(i, rank);
    if (weight != 0) last_left = i;
    sum += weight;
  }
  if (self == 0) {
    shared.best = 0xFFFFFFFFu;
    shared.last = 0;
  }
  const uint64_t through = InclusiveScan(thread, sum, shared);
  if (self == kSampleThreads - 1) shared.below = through;
  thread.Sync();
  const double target = u * static_cast<double>(shared.below);
  if (sum != 0) thread.AtomicMax(&shared.last, last_left);
  if (static_cast<double>(through) > target && !(static_cast<double>(through - sum) > target)) {
    uint64_t below = through - sum;
    rank = equal_before;
    for (uint32_t i = first; i < last; ++i) {
      const uint64_t weight = weight_at(i, rank);
      below += weight;
      if (weight != 0 && static_cast<double>(below) > target) {
        thread.AtomicMin(&shared.best, i);
        break;
      }
    }
  }
  thread.Sync();
}

// Grid: tokens × images.
NS_DEVICE void SampleToken(const Thread& thread, const SampleCall& args) {
  SampleShared& shared = *reinterpret_cast<SampleShared*>(thread.shared());
  float* const row = reinterpret_cast<float*>(thread.shared() + sizeof(SampleShared));
  const SampleImage image = args.images[thread.block_y()];
  const uint32_t token = thread.block_x(), self = static_cast<uint32_t>(thread.index()), count = args.codebook_size;
  const uint64_t from = uint64_t{token} * args.stride;
  const float cond_factor = static_cast<float>(1.0 + static_cast<double>(image.guidance));
  if (self == 0) {
    shared.bad = 0;
    shared.max_key = 0;
    shared.best = 0xFFFFFFFFu;
  }
  thread.Sync();
  uint32_t bad = 0, max_key = 0;
  for (uint32_t i = self; i < count; i += kSampleThreads) {
    float x = image.cond[from + i];
    if (image.uncond != nullptr) {
      x = Subtract(Multiply(cond_factor, x), Multiply(image.guidance, image.uncond[from + i]));
    }
    if ((FloatBits(x) & 0x7F800000u) == 0x7F800000u) bad = 1;
    row[i] = x;
    const uint32_t key = SortKey(x);
    max_key = key > max_key ? key : max_key;
    if (image.logits_out != nullptr) image.logits_out[uint64_t{token} * count + i] = x;
  }
  if (bad != 0) thread.AtomicMax(&shared.bad, 1u);
  thread.AtomicMax(&shared.max_key, max_key);
  thread.Sync();
  max_key = shared.max_key;
  if (shared.bad != 0) {  // the same for the whole block
    if (self == 0) image.tokens[token] = -1;
    return;
  }
  if (image.top_k == 1) {
    for (uint32_t i = self; i < count; i += kSampleThreads) {
      if (SortKey(row[i]) == max_key) thread.AtomicMin(&shared.best, i);
    }
    thread.Sync();
    if (self == 0) image.tokens[token] = static_cast<int32_t>(shared.best);
    return;
  }
  uint32_t threshold = 0;
  if (image.top_k != 0 && image.top_k < count) threshold = KthLargestKey(thread, row, count, image.top_k, shared);
  Boundary boundary{threshold, 0};
  if (image.top_p > 0.0f && image.top_p < 1.0f) {
    uint64_t sum = 0;
    for (uint32_t i = self; i < count; i += kSampleThreads) {
      if (SortKey(row[i]) >= threshold) sum += FixedWeight(row[i], LogitOfKey(max_key));
    }
    const uint64_t through = InclusiveScan(thread, sum, shared);
    if (self == kSampleThreads - 1) shared.below = through;
    thread.Sync();
    const double limit = (1.0 - static_cast<double>(image.top_p)) * static_cast<double>(shared.below);
    thread.Sync();
    boundary = FindBoundary(thread, row, count, threshold, max_key, limit, shared);
  }
  thread.Sync();
  Draw(thread, row, count, boundary, max_key, PhiloxUniform(image.seed, image.image, image.scale_index, token), shared);
  if (self == 0) image.tokens[token] = static_cast<int32_t>(shared.best != 0xFFFFFFFFu ? shared.best : shared.last);
}

}  // namespace nextscale::cuda::NS_SIDE
