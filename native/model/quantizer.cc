// Multi-scale residual quantization (reference: models/quant.py, VectorQuantizer2).
#include <algorithm>
#include <cmath>
#include <string>

#include "native/base/error.h"
#include "native/model/vae.h"
#include "native/ops/conv.h"
#include "native/ops/quantize.h"
#include "native/ops/resample.h"

namespace nextscale {
namespace {

// Which of `num_convs` residual convolutions belongs to a scale: the tick nearest to k / (K − 1), the first of equals.
// Double precision and this order of operations decide ties as the reference's numpy.linspace and argmin do.
size_t ResidualConvOfScale(size_t scale_index, size_t num_scales, size_t num_convs) {
  const double count = static_cast<double>(num_convs);
  const double at = num_scales == 1 ? 0.0 : static_cast<double>(scale_index) / static_cast<double>(num_scales - 1);
  const double start = num_convs == 4 ? 1.0 / 3.0 / count : 1.0 / 2.0 / count;
  const double stop = 1.0 - start;
  const double step = num_convs == 1 ? 0.0 : (stop - start) / (count - 1.0);
  size_t nearest = 0;
  double smallest = 0;
  for (size_t i = 0; i < num_convs; ++i) {
    double tick = static_cast<double>(i) * step;
    tick += start;
    if (i > 0 && i == num_convs - 1) tick = stop;  // numpy sets the end point exactly
    const double distance = std::abs(tick - at);
    if (i == 0 || distance < smallest) {
      nearest = i;
      smallest = distance;
    }
  }
  return nearest;
}

std::string ResidualConvName(size_t index, size_t num_residual_convs) {
  const std::string name = "vae.quantize.quant_resi.";
  if (num_residual_convs == 0) return name + std::to_string(index);
  return num_residual_convs == 1 ? name + "qresi" : name + "qresi_ls." + std::to_string(index);
}

}  // namespace

struct Quantizer::Impl {
  Impl(const ModelConfig& config, const TensorTable& tensors, Context& context)
      : sides(config.sides), mix(config.vae.residual_mix), side(config.side()), dim(config.vae.code_dim) {
    codebook = MakeCodebook(tensors.Floats("vae.quantize.embedding.weight", {config.vae.codebook_size, dim}),
                            config.vae.codebook_size, dim);
    stride = MapStride(dim);
    const size_t map_bytes = side * side * stride * sizeof(float);
    codes = Buffer(map_bytes);
    upsampled = Buffer(map_bytes);
    convolved = Buffer(map_bytes);
    rest = Buffer(side * side * dim * sizeof(float));
    if (std::abs(mix) <= 1e-6f) return;  // reference: nn.Identity, no tensors
    const size_t num_convs = config.vae.num_residual_convs == 0 ? config.num_scales() : config.vae.num_residual_convs;
    for (size_t i = 0; i < num_convs; ++i) {
      const std::string name = ResidualConvName(i, config.vae.num_residual_convs);
      const std::string weight = name + ".weight";
      residual_convs.push_back(PackConv(context, tensors.Get(weight, {dim, dim, 3, 3}),
                                        tensors.Floats(name + ".bias", {dim}), weight.c_str()));
    }
    for (size_t k = 0; k < sides.size(); ++k) conv_of_scale.push_back(ResidualConvOfScale(k, sides.size(), num_convs));
    workspace_floats = ConvWorkspace(ResidualConvArgs(0));
    workspace = Buffer(workspace_floats * sizeof(float));
  }

  ConvArgs ResidualConvArgs(size_t scale_index) const {
    ConvArgs args;
    args.out = convolved.as<float>();
    args.in = upsampled.as<float>();
    args.out_stride = args.in_stride = stride;
    args.in_height = args.in_width = side;
    args.weights = &residual_convs[conv_of_scale[scale_index]];
    args.workspace = workspace.as<float>();
    args.workspace_floats = workspace_floats;
    return args;
  }

  // f += sign · residual_conv(bicubic_up(codebook[tokens]))
  void Accumulate(Context& context, size_t scale_index, const int32_t* tokens, float sign, float* f) {
    const size_t in_side = sides[scale_index], num_pixels = side * side;
    for (size_t i = 0; i < in_side * in_side; ++i) {
      const size_t token = static_cast<size_t>(tokens[i]);
      NS_REQUIRE(tokens[i] >= 0 && token < codebook.size, ErrorCode::kInvalidArgument, "token ", tokens[i],
                 " at position ", i, " of scale ", scale_index, ", expected 0..", codebook.size - 1);
      std::copy_n(codebook.rows.data() + token * dim, dim, codes.as<float>() + i * stride);
    }
    Bicubic(context, {.out = upsampled.as<float>(),
                      .out_stride = stride,
                      .out_side = side,
                      .in = codes.as<float>(),
                      .in_stride = stride,
                      .in_side = in_side,
                      .channels = dim});
    if (!residual_convs.empty()) Conv(context, ResidualConvArgs(scale_index));
    const float* h = upsampled.as<float>();
    const float* y = convolved.as<float>();
    const float r = residual_convs.empty() ? 0.0f : std::abs(mix);
    for (size_t e = 0; e < dim; ++e) {
      for (size_t p = 0; p < num_pixels; ++p) {
        f[e * num_pixels + p] += sign * (h[p * stride + e] * (1.0f - r) + y[p * stride + e] * r);
      }
    }
  }

  std::vector<size_t> sides;
  float mix;
  size_t side, dim, stride = 0;  // P, E
  Codebook codebook;
  std::vector<PackedConv> residual_convs;
  std::vector<size_t> conv_of_scale;
  Buffer codes, upsampled, convolved;  // maps of at most [P, P, E]
  Buffer rest;                         // f_rest [E, P, P]
  Buffer workspace;
  size_t workspace_floats = 0;
};

Quantizer::Quantizer(const ModelConfig& config, const TensorTable& tensors, Context& context)
    : impl_(std::make_unique<Impl>(config, tensors, context)) {}
Quantizer::~Quantizer() = default;

void Quantizer::AddScale(Context& context, size_t scale_index, const int32_t* tokens, float* f_hat) {
  NS_CHECK(scale_index < impl_->sides.size());
  impl_->Accumulate(context, scale_index, tokens, 1.0f, f_hat);
}

void Quantizer::NextInput(Context& context, size_t scale_index, const float* f_hat, float* rows) {
  NS_CHECK(scale_index >= 1 && scale_index < impl_->sides.size());
  AreaDown(context, {.out = rows,
                     .out_stride = impl_->dim,
                     .out_side = impl_->sides[scale_index],
                     .in = f_hat,
                     .in_side = impl_->side,
                     .channels = impl_->dim});
}

void Quantizer::Tokenize(Context& context, const float* f, int32_t* tokens) {
  Impl& impl = *impl_;
  float* f_rest = impl.rest.as<float>();
  std::copy_n(f, impl.dim * impl.side * impl.side, f_rest);
  for (size_t k = 0; k < impl.sides.size(); ++k) {
    const size_t count = impl.sides[k] * impl.sides[k];
    float* rows = impl.codes.as<float>();
    // At the last scale the sides are equal and the mean is over one pixel: the identity.
    AreaDown(context, {.out = rows,
                       .out_stride = impl.stride,
                       .out_side = impl.sides[k],
                       .in = f_rest,
                       .in_side = impl.side,
                       .channels = impl.dim});
    NearestCode(context,
                {.tokens = tokens, .rows = rows, .stride = impl.stride, .num_rows = count, .codebook = &impl.codebook});
    impl.Accumulate(context, k, tokens, -1.0f, f_rest);
    tokens += count;
  }
}

}  // namespace nextscale
