// The way back through the tanh form of GELU: its input was kept, its output is made again.
#pragma once

#include <cstddef>

namespace nextscale {

// du = dout · gelu'(u). du may be dout. With `out`: also out = gelu(u), for the same exponential; out may be u.
struct GeluGradientArgs {
  float* du = nullptr;          // [M, stride]
  const float* dout = nullptr;  // [M, stride]
  const float* u = nullptr;     // [M, stride]
  float* out = nullptr;         // [M, stride] or null
  size_t stride = 0;
  size_t num_rows = 0, width = 0;
};

}  // namespace nextscale
