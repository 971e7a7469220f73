#include "native/model/subnet.h"

#include <algorithm>
#include <bit>

#include "native/base/error.h"

namespace nextscale {
namespace {

// `count` of the elements, evenly by position, first and last included; count >= 2.
std::vector<uint32_t> PickEvenly(const std::vector<uint32_t>& elements, size_t count) {
  std::vector<uint32_t> picked(count);
  for (size_t i = 0; i < count; ++i) picked[i] = elements[i * (elements.size() - 1) / (count - 1)];
  return picked;
}

// Positions 0..count-1 in an order whose every beginning is spread evenly (van der Corput: bits reversed).
std::vector<size_t> SpreadOrder(size_t count) {
  const size_t bits = std::bit_width(count - 1), size = size_t{1} << bits;
  std::vector<size_t> order;
  for (size_t i = 0; i < size; ++i) {
    size_t reversed = 0;
    for (size_t bit = 0; bit < bits; ++bit) reversed |= ((i >> bit) & 1) << (bits - 1 - bit);
    if (reversed < count) order.push_back(reversed);
  }
  return order;
}

std::vector<uint32_t> NestedBlocks(std::vector<uint32_t> upper, size_t depth) {
  for (;;) {
    if (upper.size() == depth) return upper;
    const size_t lower_size = std::bit_floor(upper.size() - 1);
    std::vector<uint32_t> lower = PickEvenly(upper, lower_size);
    if (depth > lower_size) {
      std::vector<uint32_t> extra;
      std::set_difference(upper.begin(), upper.end(), lower.begin(), lower.end(), std::back_inserter(extra));
      const std::vector<size_t> order = SpreadOrder(extra.size());
      for (size_t i = 0; i < depth - lower_size; ++i) lower.push_back(extra[order[i]]);
      std::sort(lower.begin(), lower.end());
      return lower;
    }
    upper = std::move(lower);
  }
}

}  // namespace

std::vector<uint32_t> SubnetBlocks(size_t full_depth, size_t depth, Strategy strategy) {
  NS_REQUIRE(depth >= (full_depth == 1 ? 1 : 2) && depth <= full_depth, ErrorCode::kInvalidArgument,
             "depth must be from ", full_depth == 1 ? 1 : 2, " to ", full_depth, ", found ", depth);
  std::vector<uint32_t> all(full_depth);
  for (size_t i = 0; i < full_depth; ++i) all[i] = static_cast<uint32_t>(i);
  if (depth == full_depth) return all;
  return strategy == Strategy::kEven ? PickEvenly(all, depth) : NestedBlocks(std::move(all), depth);
}

SubnetTable::SubnetTable(size_t full_depth, Strategy strategy) : subnets_(full_depth + 1) {
  for (size_t depth = full_depth < 2 ? 1 : 2; depth <= full_depth; ++depth) {
    subnets_[depth] = SubnetBlocks(full_depth, depth, strategy);
  }
}

}  // namespace nextscale
