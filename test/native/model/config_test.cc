#include "native/model/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "native/base/error.h"

namespace nextscale {
namespace {

ModelConfig Good() {
  ModelConfig config;
  config.transformer = {.depth = 3, .width = 30, .num_heads = 5, .mlp_width = 120, .num_classes = 10};
  config.tokenizer = {.codebook_size = 50,
                      .code_dim = 6,
                      .num_residual_convs = 4,
                      .residual_mix = 0.5f,
                      .channels = 32,
                      .multipliers = {1, 2},
                      .num_res_blocks = 1,
                      .sides = {1, 2, 4}};
  return config;
}

TEST(Config, AcceptsOddShapes) {
  ModelConfig config = Good();
  EXPECT_NO_THROW(Validate(config));
  EXPECT_EQ(config.num_tokens(), 21u);
}

TEST(Config, RefusesWhatLaterSizesRelyOn) {
  const std::vector<std::function<void(ModelConfig&)>> breaks = {
      [](ModelConfig& c) { c.transformer.depth = 0; },       [](ModelConfig& c) { c.transformer.width = 1 << 20; },
      [](ModelConfig& c) { c.transformer.num_heads = 7; },   [](ModelConfig& c) { c.transformer.num_heads = 0; },
      [](ModelConfig& c) { c.transformer.mlp_width = 0; },   [](ModelConfig& c) { c.transformer.num_classes = 0; },
      [](ModelConfig& c) { c.tokenizer.codebook_size = 1; },  // and all that the tokenizer's config refuses
  };
  for (size_t i = 0; i < breaks.size(); ++i) {
    ModelConfig config = Good();
    breaks[i](config);
    EXPECT_THROW(Validate(config), Error) << "case " << i;
  }
}

}  // namespace
}  // namespace nextscale
