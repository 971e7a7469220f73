// The gradient of a linear layer's weights.
//
// The gradient with respect to a layer's input is a linear layer too: dx = dy · W is Linear with the transposed
// weights.
#pragma once

#include <cstddef>

#include "native/ops/linear.h"

namespace nextscale {

// dweights[n, k] += Σ_r dy[r, n] · a[r, k];  dbias[n] += Σ_r dy[r, n].
// Sums run over rows in ascending order, in pieces of fixed size: the result does not depend on the number of threads.
struct WeightGradientArgs {
  float* dweights = nullptr;  // [N, K] contiguous
  float* dbias = nullptr;     // [N] or null
  const float* dy = nullptr;  // [M, dy_stride >= N]
  size_t dy_stride = 0;
  const float* a = nullptr;  // [M, a_stride >= K]: the layer's input
  size_t a_stride = 0;
  size_t num_rows = 0;  // M
  size_t n = 0, k = 0;
};

}  // namespace nextscale
