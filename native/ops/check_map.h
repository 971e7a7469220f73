// Shape checks of the ops on maps (convolution, group norm, resampling, quantization); as check.h for the
// transformer's.
#pragma once

#include "native/ops/codes.h"
#include "native/ops/conv.h"
#include "native/ops/embed.h"
#include "native/ops/group_norm.h"
#include "native/ops/image.h"
#include "native/ops/resample.h"

namespace nextscale {

void CheckPackConv(const TensorView& weights, const std::vector<float>& bias, const char* name);
void CheckCodebook(const std::vector<float>& rows, size_t size, size_t dim);
void CheckConv(const ConvArgs& args);
void CheckConvWorkspace(const ConvArgs& args, size_t needed);  // floats, of arguments that CheckConv has passed
void CheckGroupNorm(const GroupNormArgs& args);
void CheckNormalizeMap(const NormalizeMapArgs& args);
void CheckBicubic(const BicubicArgs& args);
void CheckAreaDown(const AreaDownArgs& args);
void CheckNearestCode(const NearestCodeArgs& args);
void CheckAddCodes(const AddCodesArgs& args);
void CheckEmbed(const EmbedArgs& args);
void CheckCondition(const ConditionArgs& args);
void CheckAddOffset(const AddOffsetArgs& args);
void CheckImageToMap(const ImageToMapArgs& args);
void CheckMapToImage(const MapToImageArgs& args);

}  // namespace nextscale
