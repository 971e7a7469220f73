// f_hat → image (reference: VQVAE.fhat_to_img, Decoder.forward). Tensors: "vae.post_quant_conv.*", "vae.decoder.*".
#pragma once

#include <cstdint>

#include "native/base/cancel.h"
#include "native/tokenizer/config.h"
#include "native/tokenizer/layers.h"

namespace nextscale {

// Holds its workspace: one thread at a time. Pointers are the device's; results are there after Backend::Wait.
class Decoder {
 public:
  Decoder(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors);

  // (clamp(decoder(post_quant_conv(f_hat)), -1, 1) + 1) / 2 as f32 planar [3, S, S], or times 255 and rounded as bytes
  // [S, S, 3]; S = image_side, one of the two is null. f_hat [P², E].
  // `cancelled` (may be null) is polled between layers; throws Error(kAborted).
  void Decode(const float* f_hat, float* planar, uint8_t* bytes, const CancelFlag* cancelled = nullptr);

 private:
  Backend& backend_;
  LayerChain chain_;
};

}  // namespace nextscale
