// Shape checks of the training ops; as check.h for inference.
#pragma once

#include "native/ops/attention_gradient.h"
#include "native/ops/embed_gradient.h"
#include "native/ops/gelu_gradient.h"
#include "native/ops/linear_gradient.h"
#include "native/ops/norm_gradient.h"
#include "native/ops/optimizer.h"

namespace nextscale {

// `panel`: the width of a panel of this backend.
void CheckRepack(const float* weights, const PackedMatrix& packed, size_t panel);
void CheckWeightGradient(const WeightGradientArgs& args);
void CheckModulate(const ModulateArgs& args);
void CheckModulatedNormGradient(const ModulatedNormGradientArgs& args);
void CheckGatedResidualGradient(const GatedResidualGradientArgs& args);
void CheckSplitHeadsGradient(const SplitHeadsGradientArgs& args);
void CheckAttentionGradient(const AttentionGradientArgs& args);
void CheckHeadFactors(const HeadFactorArgs& args);
void CheckHeadFactorsGradient(const HeadFactorGradientArgs& args);
void CheckGeluGradient(const GeluGradientArgs& args);
void CheckEmbedGradient(const EmbedGradientArgs& args);
void CheckConditionGradient(const ConditionGradientArgs& args);
void CheckSquaredNorm(const float* values, size_t count);
void CheckAdamW(const AdamWArgs& args);

}  // namespace nextscale
