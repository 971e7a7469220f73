// The transformer's parameters as one run of f32 numbers: names, shapes and places.
//
// Weights, gradient, the optimizer's moments and the average all have this layout, so an update is a walk over runs.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "native/model/config.h"

namespace nextscale {

struct Parameter {
  std::string name;  // the reference's, without prefix: "blocks.0.attn.proj.weight"
  std::vector<size_t> shape;
  size_t offset = 0, count = 0;
  // Not for biases, one-dimensional parameters and embeddings (reference: utils/lr_control.py, filter_params).
  bool decay = false;
  std::optional<size_t> block_index;  // of the block that it belongs to
};

// Places in the run. A linear layer's weight is [n, k].
struct LinearPlace {
  size_t weight = 0, bias = 0;
  size_t n = 0, k = 0;
};

struct BlockPlaces {
  size_t scale_mul = 0;  // [H]; only with L2 norm
  size_t q_bias = 0, v_bias = 0;
  LinearPlace qkv;  // without `bias`
  LinearPlace proj, fc1, fc2;
  LinearPlace ada;        // [6C, C]; only without shared modulations
  size_t ada_offset = 0;  // [6C]; only with them
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  const std::vector<Parameter>& all() const { return parameters_; }
  // Numbers in the run; every parameter begins at a multiple of 16, what lies between is zero.
  size_t size() const { return size_; }
  // Throws Error(kInvalidArgument).
  const Parameter& Find(std::string_view name) const;

  size_t class_embedding = 0, start_position = 0, position = 0, level = 0;
  LinearPlace word, shared_ada, head_ada, head;  // shared_ada: n = 0 when there is none
  std::vector<BlockPlaces> blocks;

 private:
  size_t Add(std::string name, std::vector<size_t> shape, std::optional<size_t> block_index = std::nullopt);
  LinearPlace AddLinear(const std::string& name, size_t n, size_t k, std::optional<size_t> block_index = std::nullopt);
  void AddBlock(const TransformerConfig& var, size_t block_index);

  std::vector<Parameter> parameters_;
  size_t size_ = 0;
};

}  // namespace nextscale
