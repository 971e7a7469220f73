// Image → f (reference: quant_conv(Encoder.forward)).
#include <string>

#include "native/model/vae.h"
#include "native/model/vae_layers.h"
#include "native/ops/resample.h"

namespace nextscale {

struct Encoder::Impl {
  Impl(const ModelConfig& config, const TensorTable& tensors, Context& context)
      : chain(context, tensors, "vae.", config.image_side(), 3) {
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
    chain.AddNormConv("encoder.norm_out", "encoder.conv_out", vae.code_dim);
    chain.AddConv("quant_conv", vae.code_dim);
    chain.Allocate();
  }

  LayerChain chain;
};

Encoder::Encoder(const ModelConfig& config, const TensorTable& tensors, Context& context)
    : impl_(std::make_unique<Impl>(config, tensors, context)) {}
Encoder::~Encoder() = default;

void Encoder::Encode(Context& context, const float* pixels, float* f) {
  const Map in = impl_->chain.input();
  PlanarToMap(context, in.data, in.stride(), pixels, in.num_pixels(), in.channels);
  const Map out = impl_->chain.Run(context, {});
  MapToPlanar(context, f, out.data, out.stride(), out.num_pixels(), out.channels);
}

}  // namespace nextscale
