// The transformer's parameters as one run of f32 numbers: where each tensor of the list stands.
//
// Weights, gradient, the optimizer's moments and the average all have this layout, so an update is a walk over runs.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "native/model/tensors.h"

namespace nextscale {

struct Parameter : TransformerTensor {
  size_t offset = 0, count = 0;
  // Not for biases, one-dimensional parameters and embeddings (reference: utils/lr_control.py, filter_params).
  bool decay = false;
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  const TransformerTensors& tensors() const { return tensors_; }
  // In the order of the list.
  const std::vector<Parameter>& all() const { return parameters_; }
  size_t offset(size_t tensor) const { return parameters_[tensor].offset; }
  // Numbers in the run; every parameter begins at a multiple of 16, what lies between is zero.
  size_t size() const { return size_; }
  // Throws Error(kInvalidArgument).
  const Parameter& Find(std::string_view name) const;

 private:
  const TransformerTensors tensors_;
  std::vector<Parameter> parameters_;
  size_t size_ = 0;
};

}  // namespace nextscale
