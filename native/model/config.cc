#include "native/model/config.h"

#include <cmath>
#include <string_view>

#include "native/base/error.h"

namespace nextscale {
namespace {

void RequireIn(std::string_view what, size_t value, size_t low, size_t high) {
  NS_REQUIRE(value >= low && value <= high, ErrorCode::kInvalidCheckpoint, what, " is ", value, "; expected ", low, " to ", high);
}

}  // namespace

void Validate(const ModelConfig& config) {
  const VarConfig& var = config.var;
  RequireIn("depth", var.depth, 1, 256);
  RequireIn("width", var.width, 1, 16384);
  RequireIn("number of heads", var.num_heads, 1, var.width);
  NS_REQUIRE(var.width % var.num_heads == 0, ErrorCode::kInvalidCheckpoint, "width ", var.width, " is not divisible by ",
             var.num_heads, " heads");
  RequireIn("head size", var.width / var.num_heads, 1, 1024);
  RequireIn("feed-forward width", var.mlp_width, 1, 65536);
  RequireIn("number of classes", var.num_classes, 1, size_t{1} << 20);

  const VaeConfig& vae = config.vae;
  RequireIn("codebook size", vae.codebook_size, 2, size_t{1} << 20);
  RequireIn("code vector size", vae.code_dim, 1, 1024);
  RequireIn("number of residual convolutions", vae.num_residual_convs, 0, 32);
  NS_REQUIRE(std::isfinite(vae.residual_mix) && vae.residual_mix >= 0.0f && vae.residual_mix <= 1.0f,
             ErrorCode::kInvalidCheckpoint, "residual mix is ", vae.residual_mix, "; expected 0 to 1");
  RequireIn("base channels", vae.channels, 1, 4096);
  RequireIn("number of channel multipliers", vae.multipliers.size(), 1, 8);
  RequireIn("residual blocks per level", vae.num_res_blocks, 1, 16);
  for (size_t multiplier : vae.multipliers) {
    RequireIn("channel multiplier", multiplier, 1, 64);
    const size_t channels = vae.channels * multiplier;
    RequireIn("channels of a level", channels, 32, 8192);
    NS_REQUIRE(channels % 32 == 0, ErrorCode::kInvalidCheckpoint, "a level has ", channels,
               " channels; expected a multiple of 32 (the groups of its norms)");
  }

  RequireIn("number of scales", config.sides.size(), 1, 32);
  size_t previous = 0;
  for (size_t side : config.sides) {
    RequireIn("side of a scale", side, 1, 64);  // attention takes up to 4096 tokens
    NS_REQUIRE(side > previous, ErrorCode::kInvalidCheckpoint, "sides of the scales must ascend; found ", side, " after ",
               previous);
    previous = side;
  }
  RequireIn("side of the image", config.image_side(), 1, 8192);
}

}  // namespace nextscale
