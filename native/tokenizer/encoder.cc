#include "native/tokenizer/encoder.h"

#include <string>

#include "native/tokenizer/layers.h"

namespace nextscale {

Encoder::Encoder(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors)
    : backend_(backend), chain_(backend, tensors, "vae.", config.image_side(), 3) {
  const size_t levels = config.multipliers.size();
  chain_.AddConv("encoder.conv_in", config.channels);
  for (size_t level = 0; level < levels; ++level) {
    const std::string name = "encoder.down." + std::to_string(level);
    for (size_t block = 0; block < config.num_res_blocks; ++block) {
      chain_.AddResidualBlock(name + ".block." + std::to_string(block), config.channels * config.multipliers[level]);
      if (level == levels - 1) chain_.AddAttention(name + ".attn." + std::to_string(block));
    }
    if (level < levels - 1) chain_.AddConv(name + ".downsample.conv", chain_.channels(), ConvKind::kDown);
  }
  const size_t width = chain_.channels();
  chain_.AddResidualBlock("encoder.mid.block_1", width);
  chain_.AddAttention("encoder.mid.attn_1");
  chain_.AddResidualBlock("encoder.mid.block_2", width);
  chain_.AddNormConv("encoder.norm_out", "encoder.conv_out", config.code_dim, backend.activation_dtype());
  chain_.AddConv("quant_conv", config.code_dim, ConvKind::kSame, DType::kF32);
}

void Encoder::Encode(const float* pixels, float* f, const CancelFlag* cancelled) {
  if (!allocated_) chain_.Allocate();
  allocated_ = true;
  const Map in = chain_.input();
  backend_.ImageToMap({.map = in.data,
                       .dtype = in.dtype,
                       .stride = in.stride(),
                       .planar = pixels,
                       .num_pixels = in.num_pixels(),
                       .channels = in.channels});
  const Map out = chain_.Run(cancelled);
  backend_.AreaDown({.out = f,
                     .out_stride = out.channels,
                     .out_side = out.height,
                     .in = static_cast<const float*>(out.data),
                     .in_stride = out.stride(),
                     .in_side = out.height,
                     .channels = out.channels});
}

}  // namespace nextscale
