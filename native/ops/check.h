// One shape check per op, run on the calling thread before any work starts. Every backend calls every one of them for
// the ops that it has (test/native/ops/contract_test.cc); none reads what a pointer of the device points to.
// They throw Error(kInvalidArgument) that says which argument, what was found and what was expected.
#pragma once

#include "native/base/error.h"
#include "native/ops/attention.h"
#include "native/ops/cross_entropy.h"
#include "native/ops/linear.h"
#include "native/ops/norm.h"
#include "native/ops/sample.h"

namespace nextscale {

// The kernels of the CPU compute in f32; `what` names op and argument.
inline void CheckFloat(DType dtype, const char* what) {
  NS_REQUIRE(dtype == DType::kF32, ErrorCode::kInvalidArgument, what, " is in ", DTypeName(dtype), ", expected f32");
}

void CheckPackMatrix(const TensorView& weights, const char* name);
void CheckLinear(const LinearArgs& args);
void CheckModulatedNorm(const ModulatedNormArgs& args);
void CheckSplitHeads(const SplitHeadsArgs& args);
// That the linear layer stores what is split, and both checks.
void CheckQkv(const LinearArgs& linear, const SplitHeadsArgs& split);
void CheckAttention(const AttentionArgs& args);
void CheckSample(const SampleArgs& args);
void CheckCrossEntropy(const CrossEntropyArgs& args);

}  // namespace nextscale
