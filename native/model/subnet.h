// Which blocks run at which depth.
//
// kEven, the paper's choice (VARiant, arXiv 2511.16546): I_d = { floor(i · (N−1) / (d−1)) : i = 0..d−1 }. The sets of
// different depths are mostly not nested: of 30 blocks, I_16 and I_8 share the first and the last only.
//
// kNested: every smaller set is contained in every larger one, so a block that runs at some depth has run at all
// greater depths and its cache has no gaps when a generation goes down. The anchors N, then the powers of two below N,
// down to 2 are each picked evenly by position from the next larger one (for N = 30: 16, 8, 4, 2; so at 16 it is the
// paper's set). A depth between two anchors is the lower anchor plus blocks of the upper one, spread evenly (in
// bit-reversed order of position).
//
// Both always hold the first and the last block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nextscale {

enum class Strategy { kEven, kNested };

// Blocks of the subnet of `depth` among `full_depth`, ascending. Throws Error(kInvalidArgument) unless
// 2 <= depth <= full_depth, or depth == full_depth == 1.
std::vector<uint32_t> SubnetBlocks(size_t full_depth, size_t depth, Strategy strategy);

// The subnets of all depths of one model.
class SubnetTable {
 public:
  SubnetTable(size_t full_depth, Strategy strategy);

  size_t full_depth() const { return subnets_.size() - 1; }
  size_t shallowest() const { return full_depth() < 2 ? 1 : 2; }
  bool Has(size_t depth) const { return depth >= shallowest() && depth <= full_depth(); }
  std::span<const uint32_t> Blocks(size_t depth) const { return subnets_[depth]; }

 private:
  std::vector<std::vector<uint32_t>> subnets_;  // by depth; those below shallowest() are empty
};

}  // namespace nextscale
