// The Winograd form of a 3×3 convolution: planning (plain arithmetic) and the kernel's entry.
#pragma once

#include <cstddef>

#include "native/backend/cpu/context.h"
#include "native/ops/conv.h"

namespace nextscale {

// The output is cut into tiles of 4×4 pixels, tiles into blocks. Either the transformed weights are made once and
// shared while each task transforms its own block of input (large maps), or the transformed input is made once and
// shared while each task transforms its own panel of weights (many channels, few tiles).
struct WinogradPlan {
  size_t tiles_y = 0, tiles_x = 0;
  size_t block_height = 0, block_width = 0;  // in tiles
  size_t blocks_y = 0, blocks_x = 0;
  size_t v_stride = 0;  // floats between tiles of the transformed input V
  size_t v_plane = 0;   // floats between two of the 36 positions of V
  size_t u_plane = 0;   // the same of the transformed weights U of one panel
  size_t m_plane = 0;   // the same of the products M
  bool share_input = false;
  bool fits = false;  // whether the blocks fit the scratch memory of a worker

  size_t block_tiles() const { return block_height * block_width; }
  size_t num_blocks() const { return blocks_y * blocks_x; }
  size_t v_floats() const { return 36 * v_plane; }
  size_t u_floats() const { return 36 * u_plane; }
  size_t workspace_floats(size_t num_panels) const {
    return share_input ? num_blocks() * v_floats() : num_panels * u_floats();
  }
};

// Depends on shapes only, never on the number of threads.
WinogradPlan PlanWinograd(const ConvArgs& args);

void RunWinograd(Context& context, const ConvArgs& args, const WinogradPlan& plan);

}  // namespace nextscale
