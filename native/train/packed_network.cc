#include "native/train/packed_network.h"

#include "native/tokenizer/scale_schedule.h"

namespace nextscale {
namespace {

constexpr const char* kWhat = "the weights of a step";

}  // namespace

PackedNetwork::PackedNetwork(TrainingBackend& backend, const ModelConfig& config, const ParameterLayout& layout)
    : backend_(backend), config_(config), layout_(layout) {
  const TransformerTensors& list = layout.tensors();
  forward_.class_embedding = Numbers(list.class_embedding);
  forward_.start_position = Numbers(list.start_position);
  forward_.position = Numbers(list.position);
  MakeLinear(list.word, forward_.word, nullptr);
  if (list.shared_ada) MakeLinear(*list.shared_ada, forward_.shared_ada, &backward_.shared_ada);
  MakeLinear(list.head_ada, forward_.head_ada, &backward_.head_ada);
  MakeLinear(list.head, forward_.head, &backward_.head);
  for (const BlockTensors& tensors : list.blocks) {
    BlockWeights& block = forward_.blocks.emplace_back();
    BackwardBlock& back = backward_.blocks.emplace_back();
    block.qkv.matrix = Matrix(tensors.qkv, /*transposed=*/false);
    block.qkv.bias = backend.Allocate(3 * config.transformer.width * sizeof(float), kWhat);
    back.qkv = Matrix(tensors.qkv, /*transposed=*/true);
    MakeLinear(tensors.proj, block.proj, &back.proj);
    MakeLinear(tensors.fc1, block.fc1, &back.fc1);
    MakeLinear(tensors.fc2, block.fc2, &back.fc2);
    if (config.transformer.l2_norm) block.head_factor = Numbers(tensors.scale_mul);
    if (config.transformer.shared_ada) {
      block.ada_offset = Numbers(tensors.ada_offset);
    } else {
      MakeLinear(tensors.ada, block.ada, &back.ada);
    }
  }
}

PackedMatrix PackedNetwork::Matrix(size_t tensor, bool transposed) {
  const std::vector<size_t>& shape = layout_.all()[tensor].shape;
  return backend_.MakePackedMatrix(shape[transposed ? 1 : 0], shape[transposed ? 0 : 1]);
}

Buffer PackedNetwork::Numbers(size_t tensor) {
  return backend_.Allocate(layout_.all()[tensor].count * sizeof(float), kWhat);
}

void PackedNetwork::MakeLinear(const LinearTensors& tensors, LinearWeights& forward, PackedMatrix* backward) {
  forward.matrix = Matrix(tensors.weight, /*transposed=*/false);
  forward.bias = Numbers(tensors.bias);
  if (backward != nullptr) *backward = Matrix(tensors.weight, /*transposed=*/true);
}

size_t PackedNetwork::Bytes(const ModelConfig& config) {
  const TransformerTensors list(config);
  size_t numbers = 0;
  for (const TransformerTensor& tensor : list.all) {
    const bool is_bias = tensor.shape.size() == 1;
    const bool transposed = tensor.shape.size() == 2 && tensor.name != list.all[list.class_embedding].name &&
                            tensor.name != list.all[list.level].name && tensor.name != list.all[list.word.weight].name;
    numbers += tensor.num_elements() * (transposed ? 2 : 1);
    if (is_bias && tensor.name.ends_with("q_bias"))
      numbers += config.transformer.width;  // of the keys, which have none
  }
  return (numbers - config.num_scales() * config.transformer.width) *
         sizeof(float);  // positions and levels are one sum
}

void PackedNetwork::CopyNumbers(size_t tensor, const float* weights, float* to) {
  backend_.Copy(to, weights + layout_.offset(tensor), layout_.all()[tensor].count * sizeof(float));
}

void PackedNetwork::RepackMatrix(size_t tensor, const float* weights, PackedMatrix& forward, PackedMatrix* backward) {
  backend_.Repack(weights + layout_.offset(tensor), forward);
  if (backward != nullptr) backend_.RepackTransposed(weights + layout_.offset(tensor), *backward);
}

void PackedNetwork::RepackLinear(const LinearTensors& tensors, const float* weights, LinearWeights& forward,
                                 PackedMatrix* backward) {
  RepackMatrix(tensors.weight, weights, forward.matrix, backward);
  CopyNumbers(tensors.bias, weights, forward.bias.as<float>());
}

void PackedNetwork::Repack(const float* weights) {
  const TransformerTensors& list = layout_.tensors();
  const size_t width = config_.transformer.width;
  CopyNumbers(list.class_embedding, weights, forward_.class_embedding.as<float>());
  CopyNumbers(list.start_position, weights, forward_.start_position.as<float>());
  const ScaleSchedule schedule(config_.tokenizer.sides);
  for (size_t k = 0; k < schedule.num_scales(); ++k) {
    backend_.AddOffset({.out = forward_.position.as<float>() + schedule.offsets[k] * width,
                        .out_stride = width,
                        .in = weights + layout_.offset(list.position) + schedule.offsets[k] * width,
                        .in_stride = width,
                        .offset = weights + layout_.offset(list.level) + k * width,
                        .num_rows = schedule.tokens[k],
                        .width = width});
  }
  RepackLinear(list.word, weights, forward_.word, nullptr);
  if (list.shared_ada) RepackLinear(*list.shared_ada, weights, forward_.shared_ada, &backward_.shared_ada);
  RepackLinear(list.head_ada, weights, forward_.head_ada, &backward_.head_ada);
  RepackLinear(list.head, weights, forward_.head, &backward_.head);
  for (size_t i = 0; i < list.blocks.size(); ++i) {
    const BlockTensors& tensors = list.blocks[i];
    BlockWeights& block = forward_.blocks[i];
    BackwardBlock& back = backward_.blocks[i];
    RepackMatrix(tensors.qkv, weights, block.qkv.matrix, &back.qkv);
    CopyNumbers(tensors.q_bias, weights, block.qkv.bias.as<float>());
    CopyNumbers(tensors.v_bias, weights, block.qkv.bias.as<float>() + 2 * width);
    RepackLinear(tensors.proj, weights, block.proj, &back.proj);
    RepackLinear(tensors.fc1, weights, block.fc1, &back.fc1);
    RepackLinear(tensors.fc2, weights, block.fc2, &back.fc2);
    if (config_.transformer.l2_norm) {
      backend_.HeadFactors({.head_factor = block.head_factor.as<float>(),
                            .scale_mul = weights + layout_.offset(tensors.scale_mul),
                            .num_heads = config_.transformer.num_heads});
    }
    if (config_.transformer.shared_ada) {
      CopyNumbers(tensors.ada_offset, weights, block.ada_offset.as<float>());
    } else {
      RepackLinear(tensors.ada, weights, block.ada, &back.ada);
    }
  }
}

}  // namespace nextscale
