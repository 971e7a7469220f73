#include "native/model/weights.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/ops/upload.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {
namespace {

using Shape = std::initializer_list<size_t>;

// Reads tensors by their reference names and counts bytes.
class Loader {
 public:
  // backend null: only counts.
  Loader(const TensorTable& tensors, Backend* backend, const std::function<void(size_t)>& progress)
      : tensors_(tensors), backend_(backend), progress_(progress) {}

  size_t bytes() const { return bytes_; }
  bool counting() const { return backend_ == nullptr; }

  std::vector<float> Floats(const std::string& name, Shape shape) {
    std::vector<float> values;
    if (!counting()) values = tensors_.Floats("var." + name, shape);
    Done(name, shape);
    return values;
  }

  PackedMatrix Matrix(const std::string& name, size_t n, size_t k) {
    PackedMatrix matrix;
    if (!counting()) matrix = backend_->PackMatrix(tensors_.Get("var." + name, {n, k}), ("var." + name).c_str());
    Done(name, {n, k});
    return matrix;
  }

  LinearWeights Linear(const std::string& name, size_t n, size_t k) {
    LinearWeights weights;
    weights.matrix = Matrix(name + ".weight", n, k);
    weights.bias = OnDevice(Floats(name + ".bias", {n}));
    return weights;
  }

  Buffer OnDevice(const std::vector<float>& values) const {
    return counting() ? Buffer() : UploadFloats(*backend_, values, "the transformer's weights");
  }

 private:
  void Done(const std::string& name, Shape shape) {
    bytes_ += tensors_.Bytes("var." + name, std::span(shape.begin(), shape.size()));
    if (progress_) progress_(bytes_);
  }

  const TensorTable& tensors_;
  Backend* backend_;
  const std::function<void(size_t)>& progress_;
  size_t bytes_ = 0;
};

BlockWeights LoadBlock(Loader& loader, const TransformerConfig& var, size_t block_index) {
  const size_t width = var.width;
  const std::string prefix = "blocks." + std::to_string(block_index) + ".";
  BlockWeights block;
  block.qkv.matrix = loader.Matrix(prefix + "attn.mat_qkv.weight", 3 * width, width);
  const std::vector<float> q_bias = loader.Floats(prefix + "attn.q_bias", {width});
  const std::vector<float> v_bias = loader.Floats(prefix + "attn.v_bias", {width});
  std::vector<float> qkv_bias(3 * width);
  std::copy(q_bias.begin(), q_bias.end(), qkv_bias.begin());
  std::copy(v_bias.begin(), v_bias.end(), qkv_bias.begin() + static_cast<std::ptrdiff_t>(2 * width));
  block.qkv.bias = loader.OnDevice(qkv_bias);
  block.proj = loader.Linear(prefix + "attn.proj", width, width);
  block.fc1 = loader.Linear(prefix + "ffn.fc1", var.mlp_width, width);
  block.fc2 = loader.Linear(prefix + "ffn.fc2", width, var.mlp_width);
  if (var.shared_ada) {
    block.ada_offset = loader.OnDevice(loader.Floats(prefix + "ada_gss", {1, 1, 6, width}));
  } else {
    block.ada = loader.Linear(prefix + "ada_lin.1", 6 * width, width);
  }
  if (var.l2_norm) {
    std::vector<float> factors = loader.Floats(prefix + "attn.scale_mul_1H11", {1, var.num_heads, 1, 1});
    const float limit = std::log(100.0f);
    for (float& factor : factors) factor = std::exp(std::min(factor, limit));
    block.head_factor = loader.OnDevice(factors);
  }
  return block;
}

TransformerWeights Load(Loader& loader, const ModelConfig& config) {
  const TransformerConfig& var = config.transformer;
  const size_t width = var.width;
  const ScaleSchedule schedule(config.tokenizer.sides);
  TransformerWeights weights;
  weights.class_embedding = loader.OnDevice(loader.Floats("class_emb.weight", {var.num_classes + 1, width}));
  weights.start_position = loader.OnDevice(loader.Floats("pos_start", {1, schedule.tokens[0], width}));
  std::vector<float> position = loader.Floats("pos_1LC", {1, schedule.num_tokens, width});
  const std::vector<float> level = loader.Floats("lvl_embed.weight", {schedule.num_scales(), width});
  if (!loader.counting()) {
    for (size_t scale_index = 0; scale_index < schedule.num_scales(); ++scale_index) {
      for (size_t token = 0; token < schedule.tokens[scale_index]; ++token) {
        float* row = position.data() + (schedule.offsets[scale_index] + token) * width;
        for (size_t column = 0; column < width; ++column) row[column] += level[scale_index * width + column];
      }
    }
  }
  weights.position = loader.OnDevice(position);
  weights.word = loader.Linear("word_embed", width, config.tokenizer.code_dim);
  if (var.shared_ada) weights.shared_ada = loader.Linear("shared_ada_lin.1", 6 * width, width);
  for (size_t block_index = 0; block_index < var.depth; ++block_index) {
    weights.blocks.push_back(LoadBlock(loader, var, block_index));
  }
  weights.head_ada = loader.Linear("head_nm.ada_lin.1", 2 * width, width);
  weights.head = loader.Linear("head", config.tokenizer.codebook_size, width);
  return weights;
}

}  // namespace

TransformerWeights LoadTransformer(const ModelConfig& config, const TensorTable& tensors, Backend& backend,
                                   const std::function<void(size_t)>& progress) {
  Loader loader(tensors, &backend, progress);
  return Load(loader, config);
}

size_t TransformerBytes(const ModelConfig& config, const TensorTable& tensors) {
  const std::function<void(size_t)> nobody;
  Loader loader(tensors, nullptr, nobody);
  Load(loader, config);
  return loader.bytes();
}

}  // namespace nextscale
