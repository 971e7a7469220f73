// Image → f (reference: quant_conv(Encoder.forward)).
#include <string>

#include "native/model/vae.h"
#include "native/model/vae_layers.h"

namespace nextscale {

struct Encoder::Impl {
  Impl(Backend& its_backend, const ModelConfig& config, const TensorTable& tensors)
      : backend(its_backend), chain(backend, tensors, "vae.", config.image_side(), 3) {
    const VaeConfig& vae = config.vae;
    const size_t levels = vae.multipliers.size();
    chain.AddConv("encoder.conv_in", vae.channels);
    for (size_t level = 0; level < levels; ++level) {
      const std::string name = "encoder.down." + std::to_string(level);
      for (size_t block = 0; block < vae.num_res_blocks; ++block) {
        chain.AddResidualBlock(name + ".block." + std::to_string(block), vae.channels * vae.multipliers[level]);
        if (level == levels - 1) chain.AddAttention(name + ".attn." + std::to_string(block));
      }
      if (level < levels - 1) chain.AddConv(name + ".downsample.conv", chain.channels(), ConvKind::kDown);
    }
    const size_t width = chain.channels();
    chain.AddResidualBlock("encoder.mid.block_1", width);
    chain.AddAttention("encoder.mid.attn_1");
    chain.AddResidualBlock("encoder.mid.block_2", width);
    chain.AddNormConv("encoder.norm_out", "encoder.conv_out", vae.code_dim, backend.activation_dtype());
    chain.AddConv("quant_conv", vae.code_dim, ConvKind::kSame, DType::kF32);
    chain.Allocate();
  }

  Backend& backend;
  LayerChain chain;
};

Encoder::Encoder(Backend& backend, const ModelConfig& config, const TensorTable& tensors)
    : impl_(std::make_unique<Impl>(backend, config, tensors)) {}
Encoder::~Encoder() = default;

void Encoder::Encode(const float* pixels, float* f) {
  const Map in = impl_->chain.input();
  impl_->backend.ImageToMap({.map = in.data,
                             .dtype = in.dtype,
                             .stride = in.stride(),
                             .planar = pixels,
                             .num_pixels = in.num_pixels(),
                             .channels = in.channels});
  const Map out = impl_->chain.Run({});
  impl_->backend.AreaDown({.out = f,
                           .out_stride = out.channels,
                           .out_side = out.height,
                           .in = static_cast<const float*>(out.data),
                           .in_stride = out.stride(),
                           .in_side = out.height,
                           .channels = out.channels});
}

}  // namespace nextscale
