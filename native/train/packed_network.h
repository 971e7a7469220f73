// Every matrix of the transformer in the two orders that a step needs: a · Wᵀ on the way forward, dy · W on the way
// back.
#pragma once

#include <vector>

#include "native/ops/context.h"
#include "native/ops/linear.h"
#include "native/train/parameters.h"

namespace nextscale {

struct PackedLinear {
  PackedLinear() = default;
  PackedLinear(const LinearPlace& place, bool needs_backward);
  void Repack(Context& context, const LinearPlace& place, const float* weights);

  PackedMatrix forward;   // [n, k]
  PackedMatrix backward;  // [k, n]; empty where the input needs no gradient
};

struct PackedBlock {
  PackedLinear qkv, proj, fc1, fc2, ada;
  std::vector<float> qkv_bias;     // [3C]: q | 0 | v
  std::vector<float> head_factor;  // [H]: exp(min(scale_mul, ln 100)); empty without L2 norm
};

class PackedNetwork {
 public:
  PackedNetwork(const ModelConfig& config, const ParameterLayout& layout);

  // Takes over the run of weights.
  void Repack(Context& context, const float* weights);

  PackedLinear word, shared_ada, head_ada, head;
  std::vector<PackedBlock> blocks;

 private:
  const ModelConfig& config_;
  const ParameterLayout& layout_;
};

// Bytes that a PackedNetwork takes.
size_t PackedNetworkBytes(const ModelConfig& config);

}  // namespace nextscale
