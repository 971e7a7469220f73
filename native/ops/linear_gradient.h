// What training needs beside linear.h: weights that change every step, and their gradient.
//
// The gradient with respect to a layer's input is a linear layer too: dx = dy · W is Linear with the transposed weights.
#pragma once

#include <cstddef>

#include "native/ops/context.h"
#include "native/ops/linear.h"

namespace nextscale {

// Room for an [n, k] matrix in f32, to be filled by the two functions below.
PackedMatrix MakePackedMatrix(size_t n, size_t k);

// packed [n, k] = weights [n, k], row-major, contiguous.
void Repack(Context& context, const float* weights, PackedMatrix& packed);
// packed [n, k] = weightsᵀ, weights [k, n] row-major, contiguous: Linear then computes a · weights.
void RepackTransposed(Context& context, const float* weights, PackedMatrix& packed);

// dweights[n, k] += Σ_r dy[r, n] · a[r, k];  dbias[n] += Σ_r dy[r, n].
// Sums run over rows in ascending order, in pieces of fixed size: the result does not depend on the number of threads.
struct WeightGradientArgs {
  float* dweights = nullptr;  // [N, K] contiguous
  float* dbias = nullptr;     // [N] or null
  const float* dy = nullptr;  // [M, dy_stride >= N]
  size_t dy_stride = 0;
  const float* a = nullptr;   // [M, a_stride >= K]: the layer's input
  size_t a_stride = 0;
  size_t num_rows = 0;        // M
  size_t n = 0, k = 0;
};
void WeightGradient(Context& context, const WeightGradientArgs& args);

}  // namespace nextscale
