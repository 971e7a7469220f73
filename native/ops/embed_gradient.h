// The gradients of what a teacher-forced pass reads first: embeddings and conditions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nextscale {

// dx [images · num_tokens, stride]: every token of every scale, image after image. Sums run over images and tokens in
// ascending order and are added to what is there, but for dconditions, which are written:
//   dposition[token] += Σ_images dx;  dlevel[scale] += Σ over the scale's tokens of that sum
//   dstart_position[token] += that sum, for the tokens of the first scale
//   dstarts[image] = Σ over the tokens of the first scale
struct EmbedGradientArgs {
  float* dposition = nullptr;        // [num_tokens, C]
  float* dlevel = nullptr;           // [scales, C]
  float* dstart_position = nullptr;  // [tokens[0], C]
  float* dstarts = nullptr;          // [images, C]
  const float* dx = nullptr;
  size_t stride = 0, width = 0;  // C
  size_t num_images = 0;
  std::span<const size_t> tokens = {};  // of each scale
  float* workspace = nullptr;      // [num_tokens, C]
};

// dembedding[rows[i]] += dstart[i] + dvector[i] · silu'(start[i]), i ascending.
struct ConditionGradientArgs {
  float* dembedding = nullptr;     // [.., C]
  const float* dstart = nullptr;   // [rows, C]
  const float* dvector = nullptr;  // [rows, C]
  const float* start = nullptr;    // [rows, C]
  size_t width = 0;
  std::span<const int32_t> rows = {};
};

}  // namespace nextscale
