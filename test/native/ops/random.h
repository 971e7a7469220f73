// Random numbers of tests: the same everywhere for the same seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nextscale::test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t Bits() {  // SplitMix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  float Uniform() { return static_cast<float>(static_cast<double>(Bits() >> 11) * 0x1p-52 - 1.0); }  // [-1, 1)
  size_t Index(size_t first, size_t last) { return first + Bits() % (last - first + 1); }            // inclusive
  std::vector<float> Floats(size_t count, float factor = 1.0f) {
    std::vector<float> values(count);
    for (float& value : values) value = factor * Uniform();
    return values;
  }
  // 0 .. count − 1 in some order.
  std::vector<uint32_t> Order(size_t count) {
    std::vector<uint32_t> order(count);
    for (size_t i = 0; i < count; ++i) order[i] = static_cast<uint32_t>(i);
    for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[Index(0, i - 1)]);
    return order;
  }

 private:
  uint64_t state_;
};

}  // namespace nextscale::test
