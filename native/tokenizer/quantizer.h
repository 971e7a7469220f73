// Multi-scale residual quantization (reference: models/quant.py, VectorQuantizer2): tokens <-> the running sum f_hat.
//
// Immutable after construction, except for its workspace: one thread at a time. Pointers are the device's; results are
// there after Backend::Wait. Tensors: "vae.quantize.embedding.weight" and "vae.quantize.quant_resi.*".
#pragma once

#include <cstdint>
#include <memory>

#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"
#include "native/tokenizer/config.h"

namespace nextscale {

// Codebook, residual convolutions, and the running latent sum f_hat: f32 [B, P², E] (P = sides.back()).
class Quantizer {
 public:
  Quantizer(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors);
  ~Quantizer();

  // f_hat += residual_conv_k(bicubic_up(codebook[tokens])); tokens [B, side_k²] row-major, below V (below 0: as 0).
  void AddScale(size_t scale_index, const int32_t* tokens, float* f_hat, size_t num_images = 1);
  // Area-averages f_hat to the side of scale `scale_index` (>= 1): activations [B, side², E] for word_embed.
  void NextInput(size_t scale_index, const float* f_hat, void* rows, size_t num_images = 1);
  // Multi-scale residual quantization of f [P², E] (reference: f_to_idxBl_or_fhat). tokens [num_tokens], scale after
  // scale.
  void Tokenize(const float* f, int32_t* tokens);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nextscale
