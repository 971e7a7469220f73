#include "native/model/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "native/base/error.h"

namespace nextscale {
namespace {

ModelConfig Good() {
  ModelConfig config;
  config.var = {.depth = 3, .width = 30, .num_heads = 5, .mlp_width = 120, .num_classes = 10};
  config.vae = {.codebook_size = 50, .code_dim = 6, .num_residual_convs = 4, .residual_mix = 0.5f, .channels = 32,
                .multipliers = {1, 2}, .num_res_blocks = 1};
  config.sides = {1, 2, 4};
  return config;
}

TEST(Config, AcceptsOddShapes) {
  ModelConfig config = Good();
  EXPECT_NO_THROW(Validate(config));
  EXPECT_EQ(config.num_tokens(), 21u);
  EXPECT_EQ(config.image_side(), 8u);
  config.sides = {7};
  EXPECT_NO_THROW(Validate(config));
}

TEST(Config, RefusesWhatLaterSizesRelyOn) {
  const std::vector<std::function<void(ModelConfig&)>> breaks = {
      [](ModelConfig& c) { c.var.depth = 0; },
      [](ModelConfig& c) { c.var.width = 1 << 20; },
      [](ModelConfig& c) { c.var.num_heads = 7; },
      [](ModelConfig& c) { c.var.num_heads = 0; },
      [](ModelConfig& c) { c.var.mlp_width = 0; },
      [](ModelConfig& c) { c.var.num_classes = 0; },
      [](ModelConfig& c) { c.vae.codebook_size = 1; },
      [](ModelConfig& c) { c.vae.code_dim = 0; },
      [](ModelConfig& c) { c.vae.num_residual_convs = 33; },
      [](ModelConfig& c) { c.vae.residual_mix = 1.5f; },
      [](ModelConfig& c) { c.vae.residual_mix = std::stof("nan"); },
      [](ModelConfig& c) { c.vae.channels = 33; },
      [](ModelConfig& c) { c.vae.multipliers = {}; },
      [](ModelConfig& c) { c.vae.multipliers = {1, 0}; },
      [](ModelConfig& c) { c.vae.num_res_blocks = 0; },
      [](ModelConfig& c) { c.sides = {}; },
      [](ModelConfig& c) { c.sides = {1, 1}; },
      [](ModelConfig& c) { c.sides = {2, 1}; },
      [](ModelConfig& c) { c.sides = {0, 1}; },
      [](ModelConfig& c) { c.sides = {1, 65}; },
  };
  for (size_t i = 0; i < breaks.size(); ++i) {
    ModelConfig config = Good();
    breaks[i](config);
    EXPECT_THROW(Validate(config), Error) << "case " << i;
  }
}

}  // namespace
}  // namespace nextscale
