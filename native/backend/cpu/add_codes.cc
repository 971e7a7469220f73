// Codes into f_hat: look-up, upsampling, residual convolution, one image after another.
#include <algorithm>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/check_map.h"
#include "native/ops/codes.h"
#include "native/ops/resample.h"

namespace nextscale {
namespace {

// The workspace: three maps, then what the convolution needs.
struct Maps {
  explicit Maps(const AddCodesArgs& args)
      : stride(MapStride(args.codebook->dim)),
        floats(args.side * args.side * stride),
        codes_floats(std::max(args.side, args.in_side) * std::max(args.side, args.in_side) * stride),
        codes(args.workspace),
        upsampled(codes + codes_floats),
        convolved(upsampled + floats),
        rest(convolved + floats) {}

  size_t stride, floats, codes_floats;
  float *codes, *upsampled, *convolved, *rest;
};

ConvArgs ResidualConvArgs(const AddCodesArgs& args, const Maps& maps) {
  ConvArgs conv;
  conv.out = maps.convolved;
  conv.in = maps.upsampled;
  conv.out_stride = conv.in_stride = maps.stride;
  conv.in_height = conv.in_width = args.side;
  conv.weights = args.residual_conv;
  conv.workspace = maps.rest;
  return conv;
}

}  // namespace

size_t AddCodesWorkspace(const AddCodesArgs& args) {
  const Maps maps(args);
  const size_t conv = args.residual_conv == nullptr ? 0 : ConvWorkspace(ResidualConvArgs(args, maps));
  return maps.codes_floats + 2 * maps.floats + conv;
}

void AddCodes(Context& context, const AddCodesArgs& args) {
  CheckAddCodes(args);
  const Maps maps(args);
  const size_t dim = args.codebook->dim, in_pixels = args.in_side * args.in_side, pixels = args.side * args.side;
  const float* const rows = args.codebook->rows.as<float>();
  const float r = args.residual_conv == nullptr ? 0.0f : args.mix;
  for (size_t image = 0; image < args.num_images; ++image) {
    for (size_t i = 0; i < in_pixels; ++i) {
      const auto token = static_cast<size_t>(std::max(args.tokens[image * in_pixels + i], 0));
      NS_REQUIRE(token < args.codebook->size, ErrorCode::kInvalidArgument, "token ", token, " at position ", i,
                 ", expected at most ", args.codebook->size - 1);
      std::copy_n(rows + token * dim, dim, maps.codes + i * maps.stride);
    }
    Bicubic(context, {.out = maps.upsampled,
                      .out_stride = maps.stride,
                      .out_side = args.side,
                      .in = maps.codes,
                      .in_stride = maps.stride,
                      .in_side = args.in_side,
                      .channels = dim});
    if (args.residual_conv != nullptr) {
      ConvArgs conv = ResidualConvArgs(args, maps);
      conv.workspace_floats = ConvWorkspace(conv);
      Conv(context, conv);
    }
    float* f = args.f + image * pixels * dim;
    // Without a convolution nothing stands where its result would.
    const float *h = maps.upsampled, *y = args.residual_conv == nullptr ? maps.upsampled : maps.convolved;
    for (size_t p = 0; p < pixels; ++p, f += dim, h += maps.stride, y += maps.stride) {
      for (size_t e = 0; e < dim; ++e) f[e] += args.sign * (h[e] * (1.0f - r) + y[e] * r);
    }
  }
}

}  // namespace nextscale
