// Codes into the running latent sum, and the nearest code of a vector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/ops/conv.h"
#include "native/tensor/buffer.h"

namespace nextscale {

// Code vectors, by row for look-up and in the device's own order for search. Both in device memory.
struct Codebook {
  size_t size = 0, dim = 0;  // V, E
  size_t panel = 0;
  Buffer rows;    // f32 [V, E]
  Buffer panels;  // CPU: f32 [ceil(V / panel)][E][panel]; the padding repeats the last code
};

// f += sign · ((1 − r) · h + r · (conv3x3(h) + bias)), h = bicubic(codebook[tokens]) (reference: models/quant.py,
// Phi.forward; bicubic as in resample.h). A token below 0 adds what token 0 does.
struct AddCodesArgs {
  float* f = nullptr;               // [B, side², E]
  const int32_t* tokens = nullptr;  // [B, in_side²], below V
  const Codebook* codebook = nullptr;
  size_t num_images = 1, in_side = 0, side = 0;
  const PackedConv* residual_conv = nullptr;  // of use kLatent; null: r = 0
  float mix = 0.0f;                           // r
  float sign = 1.0f;
  float* workspace = nullptr;  // 256-byte aligned, Backend::AddCodesWorkspace floats
};

// tokens[i] = argmin over v of Σ_e (rows[i, e] − codebook[v, e])², the first minimum. Always in [0, V), also for NaN.
struct NearestCodeArgs {
  int32_t* tokens = nullptr;    // [num_rows]
  const float* rows = nullptr;  // [num_rows, stride]
  size_t stride = 0;
  size_t num_rows = 0;
  const Codebook* codebook = nullptr;
};

}  // namespace nextscale
