// Multi-scale residual quantization (reference: models/quant.py, VectorQuantizer2).
#include "native/tokenizer/quantizer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/base/error.h"

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
  Impl(Backend& its_backend, const TokenizerConfig& config, const TensorTable& tensors)
      : backend(its_backend),
        sides(config.sides),
        mix(std::abs(config.residual_mix)),
        side(config.side()),
        dim(config.code_dim) {
    codebook = backend.MakeCodebook(tensors.Floats("vae.quantize.embedding.weight", {config.codebook_size, dim}),
                                    config.codebook_size, dim);
    const size_t latent_bytes = side * side * dim * sizeof(float);
    rest = backend.Allocate(latent_bytes, kWhat);
    rows = backend.Allocate(latent_bytes, kWhat);
    if (mix > 1e-6f) {  // else the reference has nn.Identity and no tensors
      const size_t num_convs = config.num_residual_convs == 0 ? config.num_scales() : config.num_residual_convs;
      for (size_t i = 0; i < num_convs; ++i) {
        const std::string name = ResidualConvName(i, config.num_residual_convs);
        const std::string weight = name + ".weight";
        residual_convs.push_back(backend.PackConv(tensors.Get(weight, {dim, dim, 3, 3}),
                                                  tensors.Floats(name + ".bias", {dim}), weight.c_str(),
                                                  ConvUse::kLatent));
      }
      for (size_t k = 0; k < sides.size(); ++k)
        conv_of_scale.push_back(ResidualConvOfScale(k, sides.size(), num_convs));
    }
    size_t workspace_floats = 0;
    for (size_t k = 0; k < sides.size(); ++k) {
      workspace_floats = std::max(workspace_floats, backend.AddCodesWorkspace(Call(k, kImages)));
    }
    workspace = backend.Allocate(workspace_floats * sizeof(float), kWhat);
  }

  AddCodesArgs Call(size_t scale_index, size_t num_images) const {
    AddCodesArgs args;
    args.codebook = &codebook;
    args.num_images = num_images;
    args.in_side = sides[scale_index];
    args.side = side;
    if (!residual_convs.empty()) args.residual_conv = &residual_convs[conv_of_scale[scale_index]];
    args.mix = mix;
    args.workspace = workspace.as<float>();
    return args;
  }

  // f += sign · residual_conv(bicubic_up(codebook[tokens]))
  void Accumulate(size_t scale_index, const int32_t* tokens, float sign, float* f, size_t num_images) const {
    for (size_t first = 0; first < num_images; first += kImages) {
      AddCodesArgs args = Call(scale_index, std::min(kImages, num_images - first));
      args.f = f + first * side * side * dim;
      args.tokens = tokens + first * sides[scale_index] * sides[scale_index];
      args.sign = sign;
      backend.AddCodes(args);
    }
  }

  // The mean of f over the cells of a scale.
  void Down(size_t scale_index, const float* f, void* out, DType dtype, size_t num_images) const {
    backend.AreaDown({.out = out,
                      .out_dtype = dtype,
                      .out_stride = dim,
                      .out_side = sides[scale_index],
                      .in = f,
                      .in_stride = dim,
                      .in_side = side,
                      .channels = dim,
                      .num_images = num_images});
  }

  static constexpr size_t kImages = 64;  // at a time: bounds the workspace
  static constexpr const char* kWhat = "the quantizer";

  Backend& backend;
  std::vector<size_t> sides;
  float mix;
  size_t side, dim;  // P, E
  Codebook codebook;
  std::vector<PackedConv> residual_convs;
  std::vector<size_t> conv_of_scale;
  Buffer rest, rows;  // [P², E]: f_rest of Tokenize, and its means
  Buffer workspace;
};

Quantizer::Quantizer(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors)
    : impl_(std::make_unique<Impl>(backend, config, tensors)) {}
Quantizer::~Quantizer() = default;

void Quantizer::AddScale(size_t scale_index, const int32_t* tokens, float* f_hat, size_t num_images) {
  NS_CHECK(scale_index < impl_->sides.size());
  impl_->Accumulate(scale_index, tokens, 1.0f, f_hat, num_images);
}

void Quantizer::NextInput(size_t scale_index, const float* f_hat, void* rows, size_t num_images) {
  NS_CHECK(scale_index >= 1 && scale_index < impl_->sides.size());
  impl_->Down(scale_index, f_hat, rows, impl_->backend.activation_dtype(), num_images);
}

void Quantizer::Tokenize(const float* f, int32_t* tokens) {
  const Impl& impl = *impl_;
  float* const f_rest = impl.rest.as<float>();
  impl.backend.Copy(f_rest, f, impl.rest.bytes());
  for (size_t k = 0; k < impl.sides.size(); ++k) {
    // At the last scale the sides are equal and the mean is over one pixel: the identity.
    impl.Down(k, f_rest, impl.rows.data(), DType::kF32, 1);
    const size_t count = impl.sides[k] * impl.sides[k];
    impl.backend.NearestCode({.tokens = tokens,
                              .rows = impl.rows.as<float>(),
                              .stride = impl.dim,
                              .num_rows = count,
                              .codebook = &impl.codebook});
    impl.Accumulate(k, tokens, -1.0f, f_rest, 1);
    tokens += count;
  }
}

}  // namespace nextscale
