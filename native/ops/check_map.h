// Shape checks of the ops on maps (convolution, group norm, resampling, quantization); as check.h for the
// transformer's.
#pragma once

#include "native/ops/conv.h"
#include "native/ops/group_norm.h"
#include "native/ops/quantize.h"
#include "native/ops/resample.h"

namespace nextscale {

void CheckPackConv(const TensorView& weights, const std::vector<float>& bias, const char* name);
void CheckConv(const ConvArgs& args);
void CheckGroupNorm(const GroupNormArgs& args);
void CheckNormalizeMap(const NormalizeMapArgs& args);
void CheckBicubic(const BicubicArgs& args);
void CheckAreaDown(const AreaDownArgs& args);
void CheckNearestCode(const NearestCodeArgs& args);

}  // namespace nextscale
