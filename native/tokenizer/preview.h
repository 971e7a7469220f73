// What of f_hat a listener sees, on the host.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextscale {

// rows [pixels, channels] → planar [channels, pixels]
void ToPlanar(const float* rows, size_t pixels, size_t channels, float* planar);

// out [pixels, 3] = M · (f_hat, 1): matrix [3, code_dim + 1] gives RGB in [0, 1]; f_hat [pixels, code_dim].
void LinearPreview(const float* matrix, const float* f_hat, size_t code_dim, size_t pixels, uint8_t* out);

}  // namespace nextscale
