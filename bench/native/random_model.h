// Random weights of any released architecture, as a safetensors file: the benchmark needs no download.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "native/base/error.h"
#include "native/base/half.h"
#include "native/base/rng.h"
#include "native/model/config.h"
#include "native/model/tensors.h"
#include "native/tensor/dtype.h"

namespace nextscale::bench {

// VAR-256 of a depth (64 channels and one head per block) with the released tokenizer; depth 36 is VAR-512 with shared
// AdaLN.
inline ModelConfig ReleasedConfig(size_t depth) {
  const bool large = depth == 36;
  const std::vector<size_t> small_sides = {1, 2, 3, 4, 5, 6, 8, 10, 13, 16},
                            large_sides = {1, 2, 3, 4, 6, 9, 13, 18, 24, 32};
  ModelConfig config;
  config.transformer = {.depth = depth,
                        .width = 64 * depth,
                        .num_heads = depth,
                        .mlp_width = 256 * depth,
                        .num_classes = 1000,
                        .shared_ada = large,
                        .l2_norm = true};
  config.tokenizer = {.codebook_size = 4096,
                      .code_dim = 32,
                      .num_residual_convs = 4,
                      .residual_mix = 0.5f,
                      .channels = 160,
                      .multipliers = {1, 1, 2, 2, 4},
                      .num_res_blocks = 2,
                      .sides = large ? large_sides : small_sides};
  return config;
}

using NamedShape = std::pair<std::string, std::vector<size_t>>;

namespace internal {

class Shapes {
 public:
  explicit Shapes(const ModelConfig& config) : config_(config) {
    for (const TransformerTensor& tensor : TransformerTensors(config).all) Add(tensor.file_name(), tensor.shape);
    Tokenizer();
  }
  std::vector<NamedShape> Take() { return std::move(shapes_); }

 private:
  void Add(const std::string& name, std::vector<size_t> shape) { shapes_.emplace_back(name, std::move(shape)); }
  void Conv(const std::string& name, size_t out, size_t in, size_t kernel) {
    Add(name + ".weight", {out, in, kernel, kernel});
    Add(name + ".bias", {out});
  }
  void Norm(const std::string& name, size_t width) {
    Add(name + ".weight", {width});
    Add(name + ".bias", {width});
  }

  void ResBlock(const std::string& name, size_t in, size_t out) {
    Norm(name + ".norm1", in);
    Conv(name + ".conv1", out, in, 3);
    Norm(name + ".norm2", out);
    Conv(name + ".conv2", out, out, 3);
    if (in != out) Conv(name + ".nin_shortcut", out, in, 1);
  }
  void Attention(const std::string& name, size_t width) {
    Norm(name + ".norm", width);
    Conv(name + ".qkv", 3 * width, width, 1);
    Conv(name + ".proj_out", width, width, 1);
  }
  void Middle(const std::string& name, size_t width) {
    ResBlock(name + ".mid.block_1", width, width);
    Attention(name + ".mid.attn_1", width);
    ResBlock(name + ".mid.block_2", width, width);
  }

  void Tokenizer() {
    const TokenizerConfig& vae = config_.tokenizer;
    Add("vae.quantize.embedding.weight", {vae.codebook_size, vae.code_dim});
    for (size_t index = 0; index < vae.num_residual_convs; ++index) {
      Conv("vae.quantize.quant_resi.qresi_ls." + std::to_string(index), vae.code_dim, vae.code_dim, 3);
    }
    Conv("vae.quant_conv", vae.code_dim, vae.code_dim, 3);
    Conv("vae.post_quant_conv", vae.code_dim, vae.code_dim, 3);
    Encoder();
    Decoder();
  }

  void Encoder() {
    const TokenizerConfig& vae = config_.tokenizer;
    const size_t levels = vae.multipliers.size();
    Conv("vae.encoder.conv_in", vae.channels, 3, 3);
    size_t width = vae.channels;
    for (size_t level = 0; level < levels; ++level) {
      const std::string name = "vae.encoder.down." + std::to_string(level);
      const size_t out = vae.channels * vae.multipliers[level];
      for (size_t block = 0; block < vae.num_res_blocks; ++block) {
        ResBlock(name + ".block." + std::to_string(block), width, out);
        width = out;
        if (level == levels - 1) Attention(name + ".attn." + std::to_string(block), width);
      }
      if (level != levels - 1) Conv(name + ".downsample.conv", width, width, 3);
    }
    Middle("vae.encoder", width);
    Norm("vae.encoder.norm_out", width);
    Conv("vae.encoder.conv_out", vae.code_dim, width, 3);
  }

  void Decoder() {
    const TokenizerConfig& vae = config_.tokenizer;
    const size_t levels = vae.multipliers.size();
    size_t width = vae.channels * vae.multipliers.back();
    Conv("vae.decoder.conv_in", width, vae.code_dim, 3);
    Middle("vae.decoder", width);
    for (size_t level = levels; level-- > 0;) {
      const std::string name = "vae.decoder.up." + std::to_string(level);
      const size_t out = vae.channels * vae.multipliers[level];
      for (size_t block = 0; block < vae.num_res_blocks + 1; ++block) {
        ResBlock(name + ".block." + std::to_string(block), width, out);
        width = out;
        if (level == levels - 1) Attention(name + ".attn." + std::to_string(block), width);
      }
      if (level != 0) Conv(name + ".upsample.conv", width, width, 3);
    }
    Norm("vae.decoder.norm_out", width);
    Conv("vae.decoder.conv_out", 3, width, 3);
  }

  const ModelConfig& config_;
  std::vector<NamedShape> shapes_;
};

}  // namespace internal

inline std::vector<NamedShape> TensorShapes(const ModelConfig& config) { return internal::Shapes(config).Take(); }

// Writes `value` in the format `dtype` to `to` (any alignment).
inline void StoreAs(DType dtype, float value, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, &value, sizeof value);
    return;
  }
  const uint16_t half = dtype == DType::kF16 ? F16FromFloat(value) : BF16FromFloat(value);
  std::memcpy(to, &half, sizeof half);
}

// Writes every tensor of `config` ("var.…", "vae.…") with small random weights; norms of the tokenizer have gain near
// 1, so activations stay in range. Overwrites `path`.
inline void WriteRandomModel(const ModelConfig& config, DType dtype, const std::string& path) {
  const std::vector<NamedShape> shapes = TensorShapes(config);
  std::string header = "{";
  size_t offset = 0;
  for (const auto& [name, shape] : shapes) {
    size_t count = 1;
    header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"" +
              (dtype == DType::kF32   ? "F32"
               : dtype == DType::kF16 ? "F16"
                                      : "BF16") +
              "\",\"shape\":[";
    for (size_t i = 0; i < shape.size(); ++i) {
      header += (i > 0 ? "," : "") + std::to_string(shape[i]);
      count *= shape[i];
    }
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + count * DTypeBytes(dtype)) + "]}";
    offset += count * DTypeBytes(dtype);
  }
  header += "}";
  header.resize((header.size() + 63) / 64 * 64 + 56, ' ');  // data starts 64-byte aligned
  std::ofstream file(path, std::ios::binary);
  const uint64_t header_bytes = header.size();
  file.write(reinterpret_cast<const char*>(&header_bytes), 8);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));

  // One megabyte of noise, repeated at a different phase per tensor: the arithmetic does not care.
  std::vector<float> noise((size_t{1} << 18) + 17);
  for (size_t i = 0; i < noise.size(); ++i)
    noise[i] = static_cast<float>(UniformDraw(1, 0, 0, static_cast<uint32_t>(i)) - 0.5);
  std::vector<std::byte> chunk;
  size_t phase = 0;
  for (const auto& [name, shape] : shapes) {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    size_t fan_in = 1;
    for (size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
    const bool is_gain = shape.size() == 1 && name.find("norm") != std::string::npos && name.ends_with("weight");
    const float factor = shape.size() >= 2 ? 3.46f / std::sqrt(static_cast<float>(fan_in)) : 0.1f;
    chunk.resize(count * DTypeBytes(dtype));
    for (size_t i = 0; i < count; ++i) {
      const float value = (is_gain ? 1.0f : 0.0f) + factor * noise[(i + phase) % noise.size()];
      StoreAs(dtype, value, chunk.data() + i * DTypeBytes(dtype));
    }
    phase += 4099;
    file.write(reinterpret_cast<const char*>(chunk.data()), static_cast<std::streamsize>(chunk.size()));
  }
  file.flush();
  NS_REQUIRE(file.good(), ErrorCode::kIo, "could not write ", path);
}

}  // namespace nextscale::bench
