#include "native/tokenizer/config.h"

#include <cmath>

#include "native/base/error.h"

namespace nextscale {

void Validate(const TokenizerConfig& config) {
  RequireRange("codebook size", config.codebook_size, 2, size_t{1} << 20);
  RequireRange("code vector size", config.code_dim, 1, 1024);
  RequireRange("number of residual convolutions", config.num_residual_convs, 0, 32);
  NS_REQUIRE(std::isfinite(config.residual_mix) && config.residual_mix >= 0.0f && config.residual_mix <= 1.0f,
             ErrorCode::kInvalidCheckpoint, "residual mix is ", config.residual_mix, "; expected 0 to 1");
  RequireRange("base channels", config.channels, 1, 4096);
  RequireRange("number of channel multipliers", config.multipliers.size(), 1, 8);
  RequireRange("residual blocks per level", config.num_res_blocks, 1, 16);
  for (size_t multiplier : config.multipliers) {
    RequireRange("channel multiplier", multiplier, 1, 64);
    const size_t channels = config.channels * multiplier;
    RequireRange("channels of a level", channels, 32, 8192);
    NS_REQUIRE(channels % 32 == 0, ErrorCode::kInvalidCheckpoint, "a level has ", channels,
               " channels; expected a multiple of 32 (the groups of its norms)");
  }

  RequireRange("number of scales", config.num_scales(), 1, 32);
  size_t previous = 0;
  for (size_t side : config.sides) {
    RequireRange("side of a scale", side, 1, 64);  // attention takes up to 4096 tokens
    NS_REQUIRE(side > previous, ErrorCode::kInvalidCheckpoint, "sides of the scales must ascend; found ", side,
               " after ", previous);
    previous = side;
  }
  RequireRange("side of the image", config.image_side(), 1, 8192);
}

}  // namespace nextscale
