// Counter-based random numbers: a draw is a pure function of (seed, image, scale, token), so the tokens of a generation
// do not depend on what else runs, on the number of threads, or on the order of work.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace nextscale {

// One block of four 32-bit words for a 128-bit counter and a 64-bit key.
inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1), 53 bits, for one token of one scale of one image.
inline double UniformDraw(uint64_t seed, uint64_t image, uint32_t scale_index, uint32_t token_index) {
  const auto words = Philox({token_index, scale_index, static_cast<uint32_t>(image), static_cast<uint32_t>(image >> 32)}, seed);
  const uint64_t bits = (uint64_t{words[0]} << 21) ^ (uint64_t{words[1]} >> 11);
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace nextscale
