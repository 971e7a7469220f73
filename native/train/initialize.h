// Weights to start from when there is no checkpoint.
#pragma once

#include <cstdint>

#include "native/train/parameters.h"

namespace nextscale {

// Fills `weights` [layout.size()] as the reference initialises a transformer (VAR.init_weights with its defaults):
// truncated normals of deviation √(1 / 3C) cut at two, biases 0, the last layers of a block divided by √(2 · depth),
// the modulations' gates times 1e-5 and their other chunks times 0.5, the head times 0.02, head scales ln 4. Every
// number is a function of (seed, parameter, index).
void Initialize(const ModelConfig& config, const ParameterLayout& layout, uint64_t seed, float* weights);

}  // namespace nextscale
