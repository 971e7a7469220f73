// Image → f (reference: quant_conv(Encoder.forward)). Tensors: "vae.encoder.*", "vae.quant_conv.*".
#pragma once

#include "native/base/cancel.h"
#include "native/tokenizer/config.h"
#include "native/tokenizer/layers.h"

namespace nextscale {

// Holds its workspace: one thread at a time. Pointers are the device's; results are there after Backend::Wait.
class Encoder {
 public:
  Encoder(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors);

  // f [P², E] = quant_conv(encoder(pixels)); pixels [3, S, S] in [-1, 1].
  // `cancelled` (may be null) is polled between layers; throws Error(kAborted).
  void Encode(const float* pixels, float* f, const CancelFlag* cancelled = nullptr);

 private:
  Backend& backend_;
  LayerChain chain_;
  bool allocated_ = false;  // maps are taken when the first picture comes: most models only generate
};

}  // namespace nextscale
