// The kernels of this device, one function per op: the contracts are in native/ops. Each checks its arguments first and
// has run when it returns. A result never depends on the number of threads.
#pragma once

#include <vector>

#include "native/backend/cpu/context.h"

namespace nextscale {

struct AdamWArgs;
struct AddCodesArgs;
struct AddOffsetArgs;
struct AreaDownArgs;
struct AttentionArgs;
struct AttentionGradientArgs;
struct BicubicArgs;
struct Codebook;
struct ConditionArgs;
struct ConditionGradientArgs;
struct ConvArgs;
struct CrossEntropyArgs;
struct EmbedArgs;
struct EmbedGradientArgs;
struct GatedResidualGradientArgs;
struct GeluGradientArgs;
struct GroupNormArgs;
struct HeadFactorArgs;
struct HeadFactorGradientArgs;
struct ImageToMapArgs;
struct LinearArgs;
struct MapToImageArgs;
struct ModulateArgs;
struct ModulatedNormArgs;
struct ModulatedNormGradientArgs;
struct NearestCodeArgs;
struct NormalizeMapArgs;
struct PackedConv;
struct PackedMatrix;
struct SampleArgs;
struct SplitHeadsArgs;
struct SplitHeadsGradientArgs;
struct TensorView;
struct WeightGradientArgs;

// ---- weights
PackedMatrix PackMatrix(Context& context, const TensorView& weights, const char* name);
PackedMatrix MakePackedMatrix(size_t n, size_t k);
void Repack(Context& context, const float* weights, PackedMatrix& packed);
void RepackTransposed(Context& context, const float* weights, PackedMatrix& packed);
PackedConv PackConv(Context& context, const TensorView& weights, const std::vector<float>& bias, const char* name);
Codebook MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim);

// ---- transformer
void Linear(Context& context, const LinearArgs& args);
void ModulatedNorm(Context& context, const ModulatedNormArgs& args);
void SplitHeads(Context& context, const SplitHeadsArgs& args);
void Attention(Context& context, const AttentionArgs& args);
void Embed(Context& context, const EmbedArgs& args);
void Condition(Context& context, const ConditionArgs& args);
void AddOffset(Context& context, const AddOffsetArgs& args);
void Sample(Context& context, const SampleArgs& args);
// The probabilities that Sample draws from, for one row of logits; in place. For tests.
void FilterProbabilities(Context& context, float* logits, size_t codebook_size, size_t top_k, float top_p);
void CrossEntropy(Context& context, const CrossEntropyArgs& args);

// ---- tokenizer
size_t AddCodesWorkspace(const AddCodesArgs& args);
void AddCodes(Context& context, const AddCodesArgs& args);
void Bicubic(Context& context, const BicubicArgs& args);
void AreaDown(Context& context, const AreaDownArgs& args);
void NearestCode(Context& context, const NearestCodeArgs& args);
size_t ConvWorkspace(const ConvArgs& args);
void Conv(Context& context, const ConvArgs& args);
size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups);
void GroupNorm(Context& context, const GroupNormArgs& args);
void NormalizeMap(Context& context, const NormalizeMapArgs& args);
void ImageToMap(Context& context, const ImageToMapArgs& args);
void MapToImage(Context& context, const MapToImageArgs& args);

// ---- training
void Modulate(Context& context, const ModulateArgs& args);
void ModulatedNormGradient(Context& context, const ModulatedNormGradientArgs& args);
void GatedResidualGradient(Context& context, const GatedResidualGradientArgs& args);
void SplitHeadsGradient(Context& context, const SplitHeadsGradientArgs& args);
void AttentionGradient(Context& context, const AttentionGradientArgs& args);
void HeadFactors(Context& context, const HeadFactorArgs& args);
void HeadFactorsGradient(Context& context, const HeadFactorGradientArgs& args);
void GeluGradient(Context& context, const GeluGradientArgs& args);
void WeightGradient(Context& context, const WeightGradientArgs& args);
void EmbedGradient(Context& context, const EmbedGradientArgs& args);
void ConditionGradient(Context& context, const ConditionGradientArgs& args);
double SquaredNorm(Context& context, const float* values, size_t count);
void AdamW(Context& context, const AdamWArgs& args);

}  // namespace nextscale
