// The weights of a step: those of the forward pass, as inference has them, and every matrix once more, transposed, for
// dy · W on the way back.
#pragma once

#include <vector>

#include "native/model/weights.h"
#include "native/ops/training_backend.h"
#include "native/train/parameters.h"

namespace nextscale {

// [k, n] each. word_embed has none: its input needs no gradient.
struct BackwardBlock {
  PackedMatrix qkv, proj, fc1, fc2;
  PackedMatrix ada;  // only without shared modulations
};

struct BackwardWeights {
  PackedMatrix head_ada, head;
  PackedMatrix shared_ada;  // only with shared modulations
  std::vector<BackwardBlock> blocks;
};

class PackedNetwork {
 public:
  PackedNetwork(TrainingBackend& backend, const ModelConfig& config, const ParameterLayout& layout);
  static size_t Bytes(const ModelConfig& config);

  // Issues: takes over the run of weights.
  void Repack(const float* weights);

  const TransformerWeights& forward() const { return forward_; }
  const BackwardWeights& backward() const { return backward_; }

 private:
  PackedMatrix Matrix(size_t tensor, bool transposed);
  Buffer Numbers(size_t tensor);
  // backward: null where there is none.
  void MakeLinear(const LinearTensors& tensors, LinearWeights& forward, PackedMatrix* backward);
  void RepackMatrix(size_t tensor, const float* weights, PackedMatrix& forward, PackedMatrix* backward);
  void RepackLinear(const LinearTensors& tensors, const float* weights, LinearWeights& forward, PackedMatrix* backward);
  void CopyNumbers(size_t tensor, const float* weights, float* to);

  TrainingBackend& backend_;
  const ModelConfig& config_;
  const ParameterLayout& layout_;
  TransformerWeights forward_;
  BackwardWeights backward_;
};

}  // namespace nextscale
