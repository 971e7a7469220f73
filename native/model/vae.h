// The tokenizer's three parts. Each is immutable after construction and may be used by one thread at a time
// (they hold their workspace); the context's pool gives them threads.
//
// Tensor names are the reference's with the prefix "vae." ("vae.quantize.embedding.weight", "vae.decoder.conv_in.weight", ...).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "native/model/config.h"
#include "native/ops/context.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

// Codebook, residual convolutions, and the running latent sum f_hat [E, P, P] (planar, P = sides.back()).
class Quantizer {
 public:
  Quantizer(const ModelConfig& config, const TensorTable& tensors, Context& context);
  ~Quantizer();

  // f_hat += residual_conv_k(bicubic_up(codebook[tokens])); tokens [side_k²] row-major, each in [0, V).
  void AddScale(Context& context, size_t scale_index, const int32_t* tokens, float* f_hat);
  // Area-averages f_hat to the side of scale `scale_index` (>= 1): rows [side², E] for word_embed.
  void NextInput(Context& context, size_t scale_index, const float* f_hat, float* rows);
  // Multi-scale residual quantization of f [E, P, P] (reference: f_to_idxBl_or_fhat). tokens [num_tokens], scale after scale.
  void Tokenize(Context& context, const float* f, int32_t* tokens);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Decoder {
 public:
  Decoder(const ModelConfig& config, const TensorTable& tensors, Context& context);
  ~Decoder();
  // image [3, S, S] in [0, 1] = (clamp(decoder(post_quant_conv(f_hat)), -1, 1) + 1) / 2, S = image_side.
  // `cancelled` (may be empty) is polled between layers; throws Error(kAborted).
  void Decode(Context& context, const float* f_hat, float* image, const std::function<bool()>& cancelled = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Encoder {
 public:
  Encoder(const ModelConfig& config, const TensorTable& tensors, Context& context);
  ~Encoder();
  // f [E, P, P] = quant_conv(encoder(pixels)); pixels [3, S, S] in [-1, 1].
  void Encode(Context& context, const float* pixels, float* f);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nextscale
