// The architecture, as TypeScript inferred it from names and shapes (lib/checkpoint/architecture.ts) or as a test builds it.
#pragma once

#include <cstddef>
#include <vector>

namespace nextscale {

struct VarConfig {
  size_t depth = 0;              // blocks of the full network
  size_t width = 0;              // C
  size_t num_heads = 0;          // H; head size C / H
  size_t mlp_width = 0;          // hidden width of the feed-forward layer
  size_t num_classes = 0;        // the unconditional label is num_classes
  bool shared_ada = false;       // one modulation layer for all blocks + per-block offsets (reference: shared_aln)
  bool l2_norm = true;           // q and k normalised per head (reference: attn_l2_norm)
};

struct VaeConfig {
  size_t codebook_size = 0;      // V
  size_t code_dim = 0;           // E
  size_t num_residual_convs = 0; // the reference's share_quant_resi; 0 = one per scale
  float residual_mix = 0.5f;     // r
  size_t channels = 0;           // ch
  std::vector<size_t> multipliers;  // ch_mult
  size_t num_res_blocks = 0;
};

struct ModelConfig {
  VarConfig var;
  VaeConfig vae;
  std::vector<size_t> sides;     // of the scales, ascending; sides[k]² tokens

  size_t num_scales() const { return sides.size(); }
  size_t num_tokens() const {
    size_t total = 0;
    for (size_t side : sides) total += side * side;
    return total;
  }
  size_t side() const { return sides.back(); }                        // P
  size_t image_side() const { return side() << (vae.multipliers.size() - 1); }
};

// Throws Error(kInvalidCheckpoint) when a number is out of range: every later size computation relies on these limits.
void Validate(const ModelConfig& config);

}  // namespace nextscale
