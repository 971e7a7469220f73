// One shape check per op, run on the calling thread before any work starts. Every backend calls them.
// They throw Error(kInvalidArgument) that says which argument, what was found and what was expected.
#pragma once

#include "native/ops/attention.h"
#include "native/ops/linear.h"
#include "native/ops/norm.h"
#include "native/ops/sample.h"

namespace nextscale {

void CheckPackMatrix(const TensorView& weights, const char* name);
void CheckLinear(const LinearArgs& args);
void CheckModulatedNorm(const ModulatedNormArgs& args);
void CheckSplitHeads(const SplitHeadsArgs& args);
void CheckAttention(const AttentionArgs& args);
void CheckSample(const SampleArgs& args);

}  // namespace nextscale
