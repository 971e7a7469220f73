#include "native/model/weights.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/model/tensors.h"
#include "native/ops/upload.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {
namespace {

// Reads tensors of the list and counts bytes.
class Loader {
 public:
  // backend null: only counts.
  Loader(const ModelConfig& config, const TensorTable& tensors, Backend* backend,
         const std::function<void(size_t)>& progress)
      : list_(config), tensors_(tensors), backend_(backend), progress_(progress) {}

  const TransformerTensors& list() const { return list_; }

  size_t bytes() const { return bytes_; }
  bool counting() const { return backend_ == nullptr; }

  std::vector<float> Floats(size_t tensor) {
    const TransformerTensor& entry = list_.all[tensor];
    std::vector<float> values;
    if (!counting()) values = tensors_.Floats(entry.file_name(), entry.shape);
    Done(entry);
    return values;
  }

  PackedMatrix Matrix(size_t tensor) {
    const TransformerTensor& entry = list_.all[tensor];
    const std::string name = entry.file_name();
    PackedMatrix matrix;
    if (!counting()) matrix = backend_->PackMatrix(tensors_.Get(name, entry.shape), name.c_str());
    Done(entry);
    return matrix;
  }

  LinearWeights Linear(const LinearTensors& tensors) {
    LinearWeights weights;
    weights.matrix = Matrix(tensors.weight);
    weights.bias = OnDevice(Floats(tensors.bias));
    return weights;
  }

  Buffer OnDevice(const std::vector<float>& values) const {
    return counting() ? Buffer() : UploadFloats(*backend_, values, "the transformer's weights");
  }

 private:
  void Done(const TransformerTensor& entry) {
    bytes_ += tensors_.Bytes(entry.file_name(), entry.shape);
    if (progress_) progress_(bytes_);
  }

  const TransformerTensors list_;
  const TensorTable& tensors_;
  Backend* backend_;
  const std::function<void(size_t)>& progress_;
  size_t bytes_ = 0;
};

BlockWeights LoadBlock(Loader& loader, const TransformerConfig& transformer, const BlockTensors& tensors) {
  const size_t width = transformer.width;
  BlockWeights block;
  block.qkv.matrix = loader.Matrix(tensors.qkv);
  const std::vector<float> q_bias = loader.Floats(tensors.q_bias);
  const std::vector<float> v_bias = loader.Floats(tensors.v_bias);
  std::vector<float> qkv_bias(3 * width);
  std::copy(q_bias.begin(), q_bias.end(), qkv_bias.begin());
  std::copy(v_bias.begin(), v_bias.end(), qkv_bias.begin() + static_cast<std::ptrdiff_t>(2 * width));
  block.qkv.bias = loader.OnDevice(qkv_bias);
  block.proj = loader.Linear(tensors.proj);
  block.fc1 = loader.Linear(tensors.fc1);
  block.fc2 = loader.Linear(tensors.fc2);
  if (transformer.shared_ada) {
    block.ada_offset = loader.OnDevice(loader.Floats(tensors.ada_offset));
  } else {
    block.ada = loader.Linear(tensors.ada);
  }
  if (transformer.l2_norm) {
    std::vector<float> factors = loader.Floats(tensors.scale_mul);
    const float limit = std::log(100.0f);
    for (float& factor : factors) factor = std::exp(std::min(factor, limit));
    block.head_factor = loader.OnDevice(factors);
  }
  return block;
}

TransformerWeights Load(Loader& loader, const ModelConfig& config) {
  const size_t width = config.transformer.width;
  const TransformerTensors& list = loader.list();
  const ScaleSchedule schedule(config.tokenizer.sides);
  TransformerWeights weights;
  weights.class_embedding = loader.OnDevice(loader.Floats(list.class_embedding));
  weights.start_position = loader.OnDevice(loader.Floats(list.start_position));
  std::vector<float> position = loader.Floats(list.position);
  const std::vector<float> level = loader.Floats(list.level);
  if (!loader.counting()) {
    for (size_t scale_index = 0; scale_index < schedule.num_scales(); ++scale_index) {
      for (size_t token = 0; token < schedule.tokens[scale_index]; ++token) {
        float* row = position.data() + (schedule.offsets[scale_index] + token) * width;
        for (size_t column = 0; column < width; ++column) row[column] += level[scale_index * width + column];
      }
    }
  }
  weights.position = loader.OnDevice(position);
  weights.word = loader.Linear(list.word);
  if (list.shared_ada) weights.shared_ada = loader.Linear(*list.shared_ada);
  for (const BlockTensors& tensors : list.blocks) {
    weights.blocks.push_back(LoadBlock(loader, config.transformer, tensors));
  }
  weights.head_ada = loader.Linear(list.head_ada);
  weights.head = loader.Linear(list.head);
  return weights;
}

}  // namespace

TransformerWeights LoadTransformer(const ModelConfig& config, const TensorTable& tensors, Backend& backend,
                                   const std::function<void(size_t)>& progress) {
  Loader loader(config, tensors, &backend, progress);
  return Load(loader, config);
}

size_t TransformerBytes(const ModelConfig& config, const TensorTable& tensors) {
  const std::function<void(size_t)> nobody;
  Loader loader(config, tensors, nullptr, nobody);
  Load(loader, config);
  return loader.bytes();
}

}  // namespace nextscale
