// The tanh form of GELU over rows, as training runs it: the input is kept, the output is made again where it is needed.
#pragma once

#include <cstddef>

#include "native/ops/context.h"

namespace nextscale {

// out = 0.5 u (1 + tanh(√(2/π) (u + 0.044715 u³))). out may be u.
struct GeluArgs {
  float* out = nullptr;      // [M, stride]
  const float* u = nullptr;  // [M, stride]
  size_t stride = 0;
  size_t num_rows = 0, width = 0;
};
void Gelu(Context& context, const GeluArgs& args);

// du = dout · gelu'(u). du may be dout. With `out`: also out = gelu(u), for the same exponential; out may be u.
struct GeluGradientArgs {
  float* du = nullptr;          // [M, stride]
  const float* dout = nullptr;  // [M, stride]
  const float* u = nullptr;     // [M, stride]
  float* out = nullptr;         // [M, stride] or null
  size_t stride = 0;
  size_t num_rows = 0, width = 0;
};
void GeluGradient(Context& context, const GeluGradientArgs& args);

}  // namespace nextscale
