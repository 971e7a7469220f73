// f_hat → image (reference: VQVAE.fhat_to_img, Decoder.forward).
#include <algorithm>
#include <string>

#include "native/model/vae.h"
#include "native/model/vae_layers.h"
#include "native/ops/resample.h"

namespace nextscale {

struct Decoder::Impl {
  Impl(const ModelConfig& config, const TensorTable& tensors, Context& context)
      : chain(context, tensors, "vae.", config.side(), config.vae.code_dim) {
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
    chain.AddNormConv("decoder.norm_out", "decoder.conv_out", 3);
    chain.Allocate();
  }

  LayerChain chain;
};

Decoder::Decoder(const ModelConfig& config, const TensorTable& tensors, Context& context)
    : impl_(std::make_unique<Impl>(config, tensors, context)) {}
Decoder::~Decoder() = default;

void Decoder::Decode(Context& context, const float* f_hat, float* image, const std::function<bool()>& cancelled) {
  const Map in = impl_->chain.input();
  PlanarToMap(context, in.data, in.stride(), f_hat, in.num_pixels(), in.channels);
  const Map out = impl_->chain.Run(context, cancelled);
  MapToPlanar(context, image, out.data, out.stride(), out.num_pixels(), out.channels);
  const size_t count = out.num_pixels() * out.channels;
  for (size_t i = 0; i < count; ++i) image[i] = (std::clamp(image[i], -1.0f, 1.0f) + 1.0f) * 0.5f;
}

}  // namespace nextscale
