// Pictures into maps and back.

#include "native/ops/image.h"

#include <algorithm>

#include "native/backend/cpu/kernels.h"
#include "native/ops/check.h"
#include "native/ops/check_map.h"

namespace nextscale {
namespace {

constexpr size_t kPixelsPerTask = 256;

// task(first, last) for every piece of the map.
template <typename Task>
void ForPixels(Context& context, size_t num_pixels, const Task& task) {
  context.pool().ParallelFor((num_pixels + kPixelsPerTask - 1) / kPixelsPerTask, [&](size_t index, size_t) {
    task(index * kPixelsPerTask, std::min(num_pixels, (index + 1) * kPixelsPerTask));
  });
}

}  // namespace

void ImageToMap(Context& context, const ImageToMapArgs& args) {
  CheckImageToMap(args);
  CheckFloat(args.dtype, "image to map: map");
  float* const map = static_cast<float*>(args.map);
  ForPixels(context, args.num_pixels, [&](size_t first, size_t last) {
    for (size_t p = first; p < last; ++p) {
      for (size_t c = 0; c < args.channels; ++c) map[p * args.stride + c] = args.planar[c * args.num_pixels + p];
    }
  });
}

void MapToImage(Context& context, const MapToImageArgs& args) {
  CheckMapToImage(args);
  const auto value = [&](size_t p, size_t c) {
    const float x = args.map[p * args.stride + c];
    return ((x >= 1.0f ? 1.0f : x > -1.0f ? x : -1.0f) + 1.0f) * 0.5f;  // NaN is black
  };
  ForPixels(context, args.num_pixels, [&](size_t first, size_t last) {
    for (size_t c = 0; c < args.channels && args.planar != nullptr; ++c) {
      for (size_t p = first; p < last; ++p) args.planar[c * args.num_pixels + p] = value(p, c);
    }
    for (size_t p = first; p < last && args.bytes != nullptr; ++p) {
      for (size_t c = 0; c < args.channels; ++c) {
        args.bytes[p * args.channels + c] = static_cast<uint8_t>(value(p, c) * 255.0f + 0.5f);
      }
    }
  });
}

}  // namespace nextscale
