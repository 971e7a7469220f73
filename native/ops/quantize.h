// Nearest code vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/ops/context.h"
#include "native/tensor/buffer.h"

namespace nextscale {

// Code vectors, by row for look-up and in panels for search.
struct Codebook {
  size_t size = 0, dim = 0;  // V, E
  size_t panel = 0;
  std::vector<float> rows;  // [V, E]
  Buffer panels;            // f32 [ceil(V / panel)][E][panel]; the padding repeats the last code
};

Codebook MakeCodebook(std::vector<float> rows, size_t size, size_t dim);

// tokens[i] = argmin over v of Σ_e (rows[i, e] − codebook[v, e])², the first minimum. Always in [0, V), also for NaN.
struct NearestCodeArgs {
  int32_t* tokens = nullptr;    // [num_rows]
  const float* rows = nullptr;  // [num_rows, stride]
  size_t stride = 0;
  size_t num_rows = 0;
  const Codebook* codebook = nullptr;
};
void NearestCode(Context& context, const NearestCodeArgs& args);

}  // namespace nextscale
