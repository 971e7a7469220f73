#include "native/generate/preview.h"

#include <algorithm>

namespace nextscale {
namespace {

uint8_t ToByte(float value) { return static_cast<uint8_t>(std::clamp(value, 0.0f, 1.0f) * 255.0f + 0.5f); }

}  // namespace

void ToBytes(const float* image, size_t pixels, uint8_t* out) {
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) out[pixel * 3 + channel] = ToByte(image[channel * pixels + pixel]);
  }
}

void LinearPreview(const float* matrix, const float* f_hat, size_t code_dim, size_t pixels, uint8_t* out) {
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) {
      const float* row = matrix + channel * (code_dim + 1);
      float value = row[code_dim];
      for (size_t i = 0; i < code_dim; ++i) value += row[i] * f_hat[i * pixels + pixel];
      out[pixel * 3 + channel] = ToByte(value);
    }
  }
}

}  // namespace nextscale
