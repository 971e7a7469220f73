// The architecture, as TypeScript inferred it from names and shapes (lib/checkpoint/architecture.ts) or as a test
// builds it.
#pragma once

#include <cstddef>

#include "native/tokenizer/config.h"

namespace nextscale {

struct TransformerConfig {
  size_t depth = 0;         // blocks of the full network
  size_t width = 0;         // C
  size_t num_heads = 0;     // H; head size C / H
  size_t mlp_width = 0;     // hidden width of the feed-forward layer
  size_t num_classes = 0;   // the unconditional label is num_classes
  bool shared_ada = false;  // one modulation layer for all blocks + per-block offsets (reference: shared_aln)
  bool l2_norm = true;      // q and k normalised per head (reference: attn_l2_norm)
};

// A transformer and the tokenizer whose tokens it draws.
struct ModelConfig {
  TransformerConfig transformer;
  TokenizerConfig tokenizer;

  size_t num_scales() const { return tokenizer.num_scales(); }
  size_t num_tokens() const { return tokenizer.num_tokens(); }
  size_t side() const { return tokenizer.side(); }
};

// As Validate of a tokenizer's config, for both.
void Validate(const ModelConfig& config);

}  // namespace nextscale
