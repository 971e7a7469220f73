// The tokenizer's three parts. Each is immutable after construction and may be used by one thread at a time
// (they hold their workspace). Pointers are the device's; results are there after Backend::Wait.
//
// Tensor names are the reference's with the prefix "vae." ("vae.quantize.embedding.weight", "vae.decoder.conv_in.weight", ...).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "native/model/config.h"
#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

// Codebook, residual convolutions, and the running latent sum f_hat: f32 [B, P², E] (P = sides.back()).
class Quantizer {
 public:
  Quantizer(Backend& backend, const ModelConfig& config, const TensorTable& tensors);
  ~Quantizer();

  // f_hat += residual_conv_k(bicubic_up(codebook[tokens])); tokens [B, side_k²] row-major, below V (below 0: as 0).
  void AddScale(size_t scale_index, const int32_t* tokens, float* f_hat, size_t num_images = 1);
  // Area-averages f_hat to the side of scale `scale_index` (>= 1): activations [B, side², E] for word_embed.
  void NextInput(size_t scale_index, const float* f_hat, void* rows, size_t num_images = 1);
  // Multi-scale residual quantization of f [P², E] (reference: f_to_idxBl_or_fhat). tokens [num_tokens], scale after scale.
  void Tokenize(const float* f, int32_t* tokens);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Decoder {
 public:
  Decoder(Backend& backend, const ModelConfig& config, const TensorTable& tensors);
  ~Decoder();
  // (clamp(decoder(post_quant_conv(f_hat)), -1, 1) + 1) / 2 as f32 planar [3, S, S], or times 255 and rounded as bytes
  // [S, S, 3]; S = image_side, one of the two is null. f_hat [P², E].
  // `cancelled` (may be empty) is polled between layers; throws Error(kAborted).
  void Decode(const float* f_hat, float* planar, uint8_t* bytes, const std::function<bool()>& cancelled = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Encoder {
 public:
  Encoder(Backend& backend, const ModelConfig& config, const TensorTable& tensors);
  ~Encoder();
  // f [P², E] = quant_conv(encoder(pixels)); pixels [3, S, S] in [-1, 1].
  void Encode(const float* pixels, float* f);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nextscale
