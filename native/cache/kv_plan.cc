#include "native/cache/kv_plan.h"

#include <algorithm>
#include <numeric>

#include "native/base/error.h"

namespace nextscale {
namespace {

// Empties every block that is not in the ordered list `blocks`.
void Drop(std::span<size_t> held, std::span<const uint32_t> blocks) {
  for (size_t block_index = 0; block_index < held.size(); ++block_index) {
    if (!std::binary_search(blocks.begin(), blocks.end(), static_cast<uint32_t>(block_index))) held[block_index] = 0;
  }
}

size_t Sum(std::span<const size_t> held) { return std::accumulate(held.begin(), held.end(), size_t{0}); }

}  // namespace

size_t PeakRows(const KvPlan& plan, std::span<size_t> held, size_t first_scale) {
  const size_t num_scales = plan.tokens.size();
  NS_CHECK(plan.blocks.size() == num_scales);
  size_t peak = 0;
  for (size_t scale_index = first_scale; scale_index < num_scales; ++scale_index) {
    const auto blocks = plan.blocks[scale_index];
    const size_t tokens = plan.tokens[scale_index];
    if (!plan.keep_dropped) Drop(held, blocks);
    if (scale_index + 1 == num_scales) {
      peak = std::max(peak, Sum(held) + tokens);  // scratch
    } else {
      for (uint32_t block_index : blocks) held[block_index] += tokens;
      peak = std::max(peak, Sum(held));
    }
  }
  return peak;
}

size_t PeakRowsAtMost(const KvPlan& plan, std::span<const size_t> held, size_t first_scale) {
  const size_t num_scales = plan.tokens.size();
  NS_CHECK(plan.blocks.size() == num_scales);
  // After a scale of depth d, at most d blocks hold at most every token so far; and no more than was ever added.
  size_t prefix =
      std::accumulate(plan.tokens.begin(), plan.tokens.begin() + static_cast<std::ptrdiff_t>(first_scale), size_t{0});
  size_t added = Sum(held), peak = 0;
  for (size_t scale_index = first_scale; scale_index < num_scales; ++scale_index) {
    const size_t depth = plan.blocks[scale_index].size(), tokens = plan.tokens[scale_index];
    const bool last = scale_index + 1 == num_scales;
    if (!last) prefix += tokens, added += depth * tokens;
    const size_t rows = plan.keep_dropped ? added : std::min(added, depth * prefix);
    peak = std::max(peak, rows + (last ? tokens : 0));
  }
  return peak;
}

}  // namespace nextscale
