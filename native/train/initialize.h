// Weights to start from when there is no checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/model/tensors.h"

namespace nextscale {

// The numbers of one tensor as the reference initialises a transformer (VAR.init_weights with its defaults): truncated
// normals of deviation √(1 / 3C) cut at two, biases 0, the last layers of a block divided by √(2 · depth), the
// modulations' gates times 1e-5 and their other chunks times 0.5, the head times 0.02, head scales ln 4. Every number
// is a function of (seed, tensor, index).
std::vector<float> InitialValues(const ModelConfig& config, const TransformerTensors& list, size_t tensor,
                                 uint64_t seed);

}  // namespace nextscale
