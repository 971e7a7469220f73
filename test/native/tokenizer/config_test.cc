#include "native/tokenizer/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "native/base/error.h"

namespace nextscale {
namespace {

TokenizerConfig Good() {
  return {.codebook_size = 50,
          .code_dim = 6,
          .num_residual_convs = 4,
          .residual_mix = 0.5f,
          .channels = 32,
          .multipliers = {1, 2},
          .num_res_blocks = 1,
          .sides = {1, 2, 4}};
}

TEST(TokenizerConfig, AcceptsOddShapes) {
  TokenizerConfig config = Good();
  EXPECT_NO_THROW(Validate(config));
  EXPECT_EQ(config.num_tokens(), 21u);
  EXPECT_EQ(config.image_side(), 8u);
  EXPECT_EQ(config.image_numbers(), 3u * 8 * 8);
  EXPECT_EQ(config.latent_numbers(), 6u * 4 * 4);
  config.sides = {7};
  EXPECT_NO_THROW(Validate(config));
}

TEST(TokenizerConfig, RefusesWhatLaterSizesRelyOn) {
  const std::vector<std::function<void(TokenizerConfig&)>> breaks = {
      [](TokenizerConfig& c) { c.codebook_size = 1; },
      [](TokenizerConfig& c) { c.code_dim = 0; },
      [](TokenizerConfig& c) { c.num_residual_convs = 33; },
      [](TokenizerConfig& c) { c.residual_mix = 1.5f; },
      [](TokenizerConfig& c) { c.residual_mix = std::stof("nan"); },
      [](TokenizerConfig& c) { c.channels = 33; },
      [](TokenizerConfig& c) { c.multipliers = {}; },
      [](TokenizerConfig& c) {
        c.multipliers = {1, 0};
      },
      [](TokenizerConfig& c) { c.num_res_blocks = 0; },
      [](TokenizerConfig& c) { c.sides = {}; },
      [](TokenizerConfig& c) {
        c.sides = {1, 1};
      },
      [](TokenizerConfig& c) {
        c.sides = {2, 1};
      },
      [](TokenizerConfig& c) {
        c.sides = {0, 1};
      },
      [](TokenizerConfig& c) {
        c.sides = {1, 65};
      },
  };
  for (size_t i = 0; i < breaks.size(); ++i) {
    TokenizerConfig config = Good();
    breaks[i](config);
    EXPECT_THROW(Validate(config), Error) << "case " << i;
  }
}

}  // namespace
}  // namespace nextscale
