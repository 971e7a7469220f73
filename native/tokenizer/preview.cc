#include "native/tokenizer/preview.h"

#include <algorithm>

namespace nextscale {
namespace {

uint8_t ToByte(float value) { return static_cast<uint8_t>(std::clamp(value, 0.0f, 1.0f) * 255.0f + 0.5f); }

}  // namespace

void ToPlanar(const float* rows, size_t pixels, size_t channels, float* planar) {
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t channel = 0; channel < channels; ++channel) {
      planar[channel * pixels + pixel] = rows[pixel * channels + channel];
    }
  }
}

void LinearPreview(const float* matrix, const float* f_hat, size_t code_dim, size_t pixels, uint8_t* out) {
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) {
      const float* row = matrix + channel * (code_dim + 1);
      float value = row[code_dim];
      for (size_t i = 0; i < code_dim; ++i) value += row[i] * f_hat[pixel * code_dim + i];
      out[pixel * 3 + channel] = ToByte(value);
    }
  }
}

}  // namespace nextscale
