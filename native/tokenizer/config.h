// A tokenizer's shape: the pyramid of scales, the codebook, and the convolutional encoder and decoder around it.
#pragma once

#include <cstddef>
#include <vector>

namespace nextscale {

struct TokenizerConfig {
  size_t codebook_size = 0;         // V
  size_t code_dim = 0;              // E
  size_t num_residual_convs = 0;    // the reference's share_quant_resi; 0 = one per scale
  float residual_mix = 0.5f;        // r
  size_t channels = 0;              // ch
  std::vector<size_t> multipliers;  // ch_mult
  size_t num_res_blocks = 0;
  std::vector<size_t> sides;  // of the scales, ascending; sides[k]² tokens

  size_t num_scales() const { return sides.size(); }
  size_t num_tokens() const {
    size_t total = 0;
    for (size_t side : sides) total += side * side;
    return total;
  }
  size_t side() const { return sides.back(); }                              // P
  size_t image_side() const { return side() << (multipliers.size() - 1); }  // S
  size_t image_numbers() const { return 3 * image_side() * image_side(); }  // of one picture
  size_t latent_numbers() const { return code_dim * side() * side(); }      // of one f or f_hat
};

// Throws Error(kInvalidCheckpoint) when a number is out of range: every later size computation relies on these limits.
void Validate(const TokenizerConfig& config);

}  // namespace nextscale
