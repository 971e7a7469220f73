#include "native/tokenizer/scale_schedule.h"

#include <utility>

namespace nextscale {

ScaleSchedule::ScaleSchedule(std::vector<size_t> sides_of_scales) : sides(std::move(sides_of_scales)) {
  for (size_t side : sides) {
    tokens.push_back(side * side);
    offsets.push_back(num_tokens);
    num_tokens += side * side;
  }
}

}  // namespace nextscale
