// A small model with random weights, built in memory: every tensor that the engine reads, under the reference's names.
#pragma once

#include <deque>
#include <random>
#include <string>
#include <vector>

#include "native/generate/engine.h"

namespace nextscale {

class TestModel {
 public:
  explicit TestModel(ModelConfig model_config = SmallConfig()) : config(std::move(model_config)) {
    AddTransformer();
    AddTokenizer();
  }

  static ModelConfig SmallConfig() {
    ModelConfig config;
    config.transformer = {.depth = 6, .width = 24, .num_heads = 3, .mlp_width = 40, .num_classes = 5};
    config.tokenizer = {.codebook_size = 32,
                        .code_dim = 4,
                        .num_residual_convs = 2,
                        .channels = 32,
                        .multipliers = {1, 1},
                        .num_res_blocks = 1,
                        .sides = {1, 2, 3, 5}};
    return config;
  }

  // The values of a tensor, for a test that breaks them.
  std::vector<float>& Values(const std::string& name) {
    for (auto& [key, values] : storage_) {
      if (key == name) return values;
    }
    throw std::runtime_error(name);
  }

  const ModelConfig config;
  TensorTable tensors;

 private:
  void Add(const std::string& name, std::vector<size_t> shape, float deviation, float mean = 0) {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float>& values = storage_.emplace_back(name, std::vector<float>(count)).second;
    for (float& value : values) value = normal(random_);
    tensors.Add(name, {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, std::move(shape)});
  }
  void Linear(const std::string& name, size_t n, size_t k) {
    Add(name + ".weight", {n, k}, 0.25f);
    Add(name + ".bias", {n}, 0.1f);
  }
  void Conv(const std::string& name, size_t out, size_t in, size_t side = 3) {
    Add(name + ".weight", {out, in, side, side}, 0.06f);
    Add(name + ".bias", {out}, 0.1f);
  }
  void Norm(const std::string& name, size_t channels) {
    Add(name + ".weight", {channels}, 0.1f, 1.0f);
    Add(name + ".bias", {channels}, 0.1f);
  }
  void ResidualBlock(const std::string& name, size_t channels) {
    Norm(name + ".norm1", channels);
    Conv(name + ".conv1", channels, channels);
    Norm(name + ".norm2", channels);
    Conv(name + ".conv2", channels, channels);
  }
  void Attention(const std::string& name, size_t channels) {
    Norm(name + ".norm", channels);
    Conv(name + ".qkv", 3 * channels, channels, 1);
    Conv(name + ".proj_out", channels, channels, 1);
  }

  void AddTransformer() {
    const TransformerConfig& var = config.transformer;
    const size_t width = var.width, tokens = config.num_tokens();
    Add("var.class_emb.weight", {var.num_classes + 1, width}, 1.0f);
    Add("var.pos_start", {1, config.tokenizer.sides[0] * config.tokenizer.sides[0], width}, 0.5f);
    Add("var.pos_1LC", {1, tokens, width}, 0.5f);
    Add("var.lvl_embed.weight", {config.num_scales(), width}, 0.5f);
    Linear("var.word_embed", width, config.tokenizer.code_dim);
    if (var.shared_ada) Linear("var.shared_ada_lin.1", 6 * width, width);
    for (size_t i = 0; i < var.depth; ++i) {
      const std::string name = "var.blocks." + std::to_string(i) + ".";
      Add(name + "attn.mat_qkv.weight", {3 * width, width}, 0.25f);
      Add(name + "attn.q_bias", {width}, 0.2f);
      Add(name + "attn.v_bias", {width}, 0.2f);
      Linear(name + "attn.proj", width, width);
      Linear(name + "ffn.fc1", var.mlp_width, width);
      Linear(name + "ffn.fc2", width, var.mlp_width);
      if (var.shared_ada) Add(name + "ada_gss", {1, 1, 6, width}, 0.3f);
      if (!var.shared_ada) Linear(name + "ada_lin.1", 6 * width, width);
      if (var.l2_norm) Add(name + "attn.scale_mul_1H11", {1, var.num_heads, 1, 1}, 0.3f, 1.4f);
    }
    Linear("var.head_nm.ada_lin.1", 2 * width, width);
    Linear("var.head", config.tokenizer.codebook_size, width);
  }

  void AddTokenizer() {
    const TokenizerConfig& vae = config.tokenizer;
    const size_t levels = vae.multipliers.size(), width = vae.channels;  // all multipliers are 1 here
    Add("vae.quantize.embedding.weight", {vae.codebook_size, vae.code_dim}, 1.0f);
    for (size_t i = 0; i < vae.num_residual_convs; ++i) {
      Conv("vae.quantize.quant_resi.qresi_ls." + std::to_string(i), vae.code_dim, vae.code_dim);
    }
    Conv("vae.post_quant_conv", vae.code_dim, vae.code_dim);
    Conv("vae.quant_conv", vae.code_dim, vae.code_dim);
    for (const std::string part : {"vae.decoder", "vae.encoder"}) {
      const bool decoder = part == "vae.decoder";
      Conv(part + ".conv_in", width, decoder ? vae.code_dim : 3);
      ResidualBlock(part + ".mid.block_1", width);
      Attention(part + ".mid.attn_1", width);
      ResidualBlock(part + ".mid.block_2", width);
      for (size_t level = 0; level < levels; ++level) {
        const std::string name = part + (decoder ? ".up." : ".down.") + std::to_string(level);
        for (size_t block = 0; block < vae.num_res_blocks + (decoder ? 1 : 0); ++block) {
          ResidualBlock(name + ".block." + std::to_string(block), width);
          if (level == levels - 1) Attention(name + ".attn." + std::to_string(block), width);
        }
        if (decoder && level > 0) Conv(name + ".upsample.conv", width, width);
        if (!decoder && level < levels - 1) Conv(name + ".downsample.conv", width, width);
      }
      Norm(part + ".norm_out", width);
      Conv(part + ".conv_out", decoder ? 3 : vae.code_dim, width);
    }
  }

  std::mt19937_64 random_{7};
  std::deque<std::pair<std::string, std::vector<float>>> storage_;
};

}  // namespace nextscale
