// Shape checks of the training ops; as check.h for inference.
#pragma once

#include "native/ops/cross_entropy.h"
#include "native/ops/gelu_gradient.h"
#include "native/ops/linear_gradient.h"
#include "native/ops/norm_gradient.h"
#include "native/ops/optimizer.h"

namespace nextscale {

// `panel`: the width of a panel of this backend.
void CheckRepack(const float* weights, const PackedMatrix& packed, size_t panel);
void CheckWeightGradient(const WeightGradientArgs& args);
void CheckNormalizeRows(const NormalizeRowsArgs& args);
void CheckModulate(const ModulateArgs& args);
void CheckModulatedNormGradient(const ModulatedNormGradientArgs& args);
void CheckGatedResidual(const GatedResidualArgs& args);
void CheckGatedResidualGradient(const GatedResidualGradientArgs& args);
void CheckGelu(const GeluArgs& args);
void CheckGeluGradient(const GeluGradientArgs& args);
void CheckCrossEntropy(const CrossEntropyArgs& args);
void CheckSquaredNorm(const float* values, size_t count);
void CheckAdamW(const AdamWArgs& args);

}  // namespace nextscale
