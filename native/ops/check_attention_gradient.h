// Shape checks of attention as training runs it.
#pragma once

#include "native/ops/attention_gradient.h"

namespace nextscale {

void CheckNormalizeHeads(const NormalizeHeadsArgs& args);
void CheckNormalizeHeadsGradient(const NormalizeHeadsGradientArgs& args);
void CheckCausalAttention(const CausalAttentionArgs& args);
void CheckCausalAttentionGradient(const CausalAttentionGradientArgs& args);

}  // namespace nextscale
