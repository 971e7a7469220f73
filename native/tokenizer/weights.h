// The parameters of the tokenizer's layers, packed for a device. A tensor is read when its turn comes, and packed at
// once.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

constexpr size_t kNumGroups = 32;  // of every norm; reference: Normalize(num_groups=32, eps=1e-6)

// Affine part of a group norm.
struct NormWeights {
  Buffer weight, bias;  // f32 [channels]
};

// A 1×1 convolution.
struct DenseWeights {
  PackedMatrix matrix;
  Buffer bias;  // f32 [out]
};

// Reads and packs what a layer needs, by its name without the prefix. Throws Error(kInvalidCheckpoint) for a missing
// tensor or a wrong shape, kNotFinite for NaN or infinity, both with the tensor's name.
class LayerWeights {
 public:
  LayerWeights(Backend& backend, const TensorTable& tensors, std::string prefix)
      : backend_(backend), tensors_(tensors), prefix_(std::move(prefix)) {}

  PackedConv Conv(const std::string& name, size_t cout, size_t cin) const;
  DenseWeights Dense(const std::string& name, size_t out, size_t in) const;
  NormWeights Norm(const std::string& name, size_t channels) const;
  const std::string& prefix() const { return prefix_; }

 private:
  Buffer OnDevice(const std::vector<float>& values) const;

  Backend& backend_;
  const TensorTable& tensors_;
  std::string prefix_;
};

}  // namespace nextscale
