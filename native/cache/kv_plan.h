// How many cached rows a depth plan needs: pure arithmetic, so a generation's peak is known before it starts.
//
// A row is one token's keys and values in one block of one sequence. The rules that are counted here, and kept by
// KvLease:
// - A scale adds its tokens' rows to every block of its subnet.
// - Before a scale, blocks outside its subnet give their rows back, unless the caller keeps them. So after going down
// and up
//   again a block holds only what it gathered since; to go up with full context, keep.
// - The last scale's rows are needed only inside their own block: one block's worth of scratch rows serves all blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nextscale {

struct KvPlan {
  std::span<const size_t> tokens;                     // of every scale
  std::span<const std::span<const uint32_t>> blocks;  // of every scale: its subnet
  bool keep_dropped = false;
};

// Largest number of rows that one sequence has at any time while scales first_scale.. run; `held` is the number of rows
// that each block has before first_scale (all 0 for a new generation), and is used up: afterwards it is what each has
// at the end. Allocates nothing.
size_t PeakRows(const KvPlan& plan, std::span<size_t> held, size_t first_scale = 0);

// The same for a generation whose depth at each scale may turn out lower than the plan's (a deadline): no sequence of
// lower depths needs more. Equals PeakRows for plans of a bridge and one subnet depth.
size_t PeakRowsAtMost(const KvPlan& plan, std::span<const size_t> held, size_t first_scale = 0);

}  // namespace nextscale
