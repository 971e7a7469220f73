// f_hat → image (reference: VQVAE.fhat_to_img, Decoder.forward).
#include <string>

#include "native/model/vae.h"
#include "native/model/vae_layers.h"

namespace nextscale {

struct Decoder::Impl {
  Impl(Backend& its_backend, const ModelConfig& config, const TensorTable& tensors)
      : backend(its_backend), chain(backend, tensors, "vae.", config.side(), config.vae.code_dim) {
    const VaeConfig& vae = config.vae;
    const size_t levels = vae.multipliers.size();
    const size_t width = vae.channels * vae.multipliers.back();
    chain.AddConv("post_quant_conv", vae.code_dim);
    chain.AddConv("decoder.conv_in", width);
    chain.AddResidualBlock("decoder.mid.block_1", width);
    chain.AddAttention("decoder.mid.attn_1");
    chain.AddResidualBlock("decoder.mid.block_2", width);
    for (size_t level = levels; level-- > 0;) {
      const std::string name = "decoder.up." + std::to_string(level);
      for (size_t block = 0; block <= vae.num_res_blocks; ++block) {
        chain.AddResidualBlock(name + ".block." + std::to_string(block), vae.channels * vae.multipliers[level]);
        if (level == levels - 1) chain.AddAttention(name + ".attn." + std::to_string(block));
      }
      if (level > 0) chain.AddConv(name + ".upsample.conv", chain.channels(), ConvKind::kUp);
    }
    chain.AddNormConv("decoder.norm_out", "decoder.conv_out", 3, DType::kF32);
    chain.Allocate();
  }

  Backend& backend;
  LayerChain chain;
};

Decoder::Decoder(Backend& backend, const ModelConfig& config, const TensorTable& tensors)
    : impl_(std::make_unique<Impl>(backend, config, tensors)) {}
Decoder::~Decoder() = default;

void Decoder::Decode(const float* f_hat, float* planar, uint8_t* bytes, const std::function<bool()>& cancelled) {
  const Map in = impl_->chain.input();
  impl_->backend.AreaDown({.out = in.data,
                           .out_dtype = in.dtype,
                           .out_stride = in.stride(),
                           .out_side = in.height,
                           .in = f_hat,
                           .in_stride = in.channels,
                           .in_side = in.height,
                           .channels = in.channels});
  const Map out = impl_->chain.Run(cancelled);
  impl_->backend.MapToImage({.planar = planar,
                             .bytes = bytes,
                             .map = static_cast<const float*>(out.data),
                             .stride = out.stride(),
                             .num_pixels = out.num_pixels(),
                             .channels = out.channels});
}

}  // namespace nextscale
