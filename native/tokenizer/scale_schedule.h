// Sides, token counts and offsets of the pyramid.
#pragma once

#include <cstddef>
#include <vector>

namespace nextscale {

struct ScaleSchedule {
  explicit ScaleSchedule(std::vector<size_t> sides_of_scales);

  std::vector<size_t> sides;
  std::vector<size_t> tokens;   // side² of every scale
  std::vector<size_t> offsets;  // tokens of the scales before it
  size_t num_tokens = 0;

  size_t num_scales() const { return sides.size(); }
};

}  // namespace nextscale
