// Pictures as bytes: of a decoded image, and of f_hat through a linear map.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextscale {

// image [3, pixels] in [0, 1] -> out [pixels, 3], rounded; values outside are clamped.
void ToBytes(const float* image, size_t pixels, uint8_t* out);

// out [pixels, 3] = M · (f_hat, 1): matrix [3, code_dim + 1] gives RGB in [0, 1]; f_hat [code_dim, pixels].
void LinearPreview(const float* matrix, const float* f_hat, size_t code_dim, size_t pixels, uint8_t* out);

}  // namespace nextscale
