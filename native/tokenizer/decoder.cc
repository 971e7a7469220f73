#include "native/tokenizer/decoder.h"

#include <string>

#include "native/tokenizer/layers.h"

namespace nextscale {

Decoder::Decoder(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors)
    : backend_(backend), chain_(backend, tensors, "vae.", config.side(), config.code_dim) {
  const size_t levels = config.multipliers.size();
  const size_t width = config.channels * config.multipliers.back();
  chain_.AddConv("post_quant_conv", config.code_dim);
  chain_.AddConv("decoder.conv_in", width);
  chain_.AddResidualBlock("decoder.mid.block_1", width);
  chain_.AddAttention("decoder.mid.attn_1");
  chain_.AddResidualBlock("decoder.mid.block_2", width);
  for (size_t level = levels; level-- > 0;) {
    const std::string name = "decoder.up." + std::to_string(level);
    for (size_t block = 0; block <= config.num_res_blocks; ++block) {
      chain_.AddResidualBlock(name + ".block." + std::to_string(block), config.channels * config.multipliers[level]);
      if (level == levels - 1) chain_.AddAttention(name + ".attn." + std::to_string(block));
    }
    if (level > 0) chain_.AddConv(name + ".upsample.conv", chain_.channels(), ConvKind::kUp);
  }
  chain_.AddNormConv("decoder.norm_out", "decoder.conv_out", 3, DType::kF32);
  chain_.Allocate();
}

void Decoder::Decode(const float* f_hat, float* planar, uint8_t* bytes, const CancelFlag* cancelled) {
  const Map in = chain_.input();
  backend_.AreaDown({.out = in.data,
                     .out_dtype = in.dtype,
                     .out_stride = in.stride(),
                     .out_side = in.height,
                     .in = f_hat,
                     .in_stride = in.channels,
                     .in_side = in.height,
                     .channels = in.channels});
  const Map out = chain_.Run(cancelled);
  backend_.MapToImage({.planar = planar,
                       .bytes = bytes,
                       .map = static_cast<const float*>(out.data),
                       .stride = out.stride(),
                       .num_pixels = out.num_pixels(),
                       .channels = out.channels});
}

}  // namespace nextscale
