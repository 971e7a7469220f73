#include "native/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/ops/check.h"

namespace nextscale {

// A row's memory traffic grows with the width and its work with the width squared, so that narrow models are at their
// best with fewer rows.
size_t CpuBackend::batch_rows(size_t width) const { return std::clamp<size_t>(8 * width, 2048, 8192); }

Buffer CpuBackend::Allocate(size_t bytes, const char* what) {
  try {
    return Buffer(bytes);
  } catch (const Error& error) {
    throw Error(error.code(), Message(error.what(), " for ", what));
  }
}

void CpuBackend::Copy(void* to, const void* from, size_t bytes) {
  if (bytes != 0) std::memcpy(to, from, bytes);
}
void CpuBackend::Clear(void* at, size_t bytes) {
  if (bytes != 0) std::memset(at, 0, bytes);
}

PackedMatrix CpuBackend::PackMatrix(const TensorView& weights, const char* name) {
  return nextscale::PackMatrix(context_, weights, name);
}
PackedConv CpuBackend::PackConv(const TensorView& weights, const std::vector<float>& bias, const char* name, ConvUse) {
  return nextscale::PackConv(context_, weights, bias, name);
}
Codebook CpuBackend::MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) {
  return nextscale::MakeCodebook(rows, size, dim);
}

void CpuBackend::Linear(const LinearArgs& args) { nextscale::Linear(context_, args); }
void CpuBackend::ModulatedNorm(const ModulatedNormArgs& args) { nextscale::ModulatedNorm(context_, args); }
void CpuBackend::Qkv(const LinearArgs& linear, const SplitHeadsArgs& split) {
  CheckQkv(linear, split);
  nextscale::Linear(context_, linear);
  SplitHeads(context_, split);
}
void CpuBackend::Attention(const AttentionArgs& args) { nextscale::Attention(context_, args); }
void CpuBackend::Embed(const EmbedArgs& args) { nextscale::Embed(context_, args); }
void CpuBackend::Condition(const ConditionArgs& args) { nextscale::Condition(context_, args); }
void CpuBackend::AddOffset(const AddOffsetArgs& args) { nextscale::AddOffset(context_, args); }
void CpuBackend::Sample(std::span<const SampleArgs> images) {
  for (const SampleArgs& args : images) nextscale::Sample(context_, args);
}
void CpuBackend::CrossEntropy(const CrossEntropyArgs& args) { nextscale::CrossEntropy(context_, args); }

size_t CpuBackend::AddCodesWorkspace(const AddCodesArgs& args) { return nextscale::AddCodesWorkspace(args); }
void CpuBackend::AddCodes(const AddCodesArgs& args) { nextscale::AddCodes(context_, args); }
void CpuBackend::AreaDown(const AreaDownArgs& args) { nextscale::AreaDown(context_, args); }
void CpuBackend::NearestCode(const NearestCodeArgs& args) { nextscale::NearestCode(context_, args); }
size_t CpuBackend::ConvWorkspace(const ConvArgs& args) { return nextscale::ConvWorkspace(args); }
void CpuBackend::Conv(const ConvArgs& args) { nextscale::Conv(context_, args); }
size_t CpuBackend::GroupNormWorkspace(size_t num_pixels, size_t num_groups) {
  return nextscale::GroupNormWorkspace(num_pixels, num_groups);
}
void CpuBackend::GroupNorm(const GroupNormArgs& args) { nextscale::GroupNorm(context_, args); }
void CpuBackend::NormalizeMap(const NormalizeMapArgs& args) { nextscale::NormalizeMap(context_, args); }
void CpuBackend::ImageToMap(const ImageToMapArgs& args) { nextscale::ImageToMap(context_, args); }
void CpuBackend::MapToImage(const MapToImageArgs& args) { nextscale::MapToImage(context_, args); }

// ------------------------------------------------------------------ training

PackedMatrix CpuBackend::MakePackedMatrix(size_t n, size_t k) { return nextscale::MakePackedMatrix(n, k); }
void CpuBackend::Repack(const float* weights, PackedMatrix& packed) { nextscale::Repack(context_, weights, packed); }
void CpuBackend::RepackTransposed(const float* weights, PackedMatrix& packed) {
  nextscale::RepackTransposed(context_, weights, packed);
}
void CpuBackend::Modulate(const ModulateArgs& args) { nextscale::Modulate(context_, args); }
void CpuBackend::ModulatedNormGradient(const ModulatedNormGradientArgs& args) {
  nextscale::ModulatedNormGradient(context_, args);
}
void CpuBackend::GatedResidualGradient(const GatedResidualGradientArgs& args) {
  nextscale::GatedResidualGradient(context_, args);
}
void CpuBackend::SplitHeadsGradient(const SplitHeadsGradientArgs& args) {
  nextscale::SplitHeadsGradient(context_, args);
}
void CpuBackend::AttentionGradient(const AttentionGradientArgs& args) { nextscale::AttentionGradient(context_, args); }
void CpuBackend::HeadFactors(const HeadFactorArgs& args) { nextscale::HeadFactors(context_, args); }
void CpuBackend::HeadFactorsGradient(const HeadFactorGradientArgs& args) {
  nextscale::HeadFactorsGradient(context_, args);
}
void CpuBackend::GeluGradient(const GeluGradientArgs& args) { nextscale::GeluGradient(context_, args); }
void CpuBackend::WeightGradient(const WeightGradientArgs& args) { nextscale::WeightGradient(context_, args); }
void CpuBackend::EmbedGradient(const EmbedGradientArgs& args) { nextscale::EmbedGradient(context_, args); }
void CpuBackend::ConditionGradient(const ConditionGradientArgs& args) { nextscale::ConditionGradient(context_, args); }
double CpuBackend::SquaredNorm(const float* values, size_t count) {
  return nextscale::SquaredNorm(context_, values, count);
}
void CpuBackend::AdamW(const AdamWArgs& args) { nextscale::AdamW(context_, args); }

}  // namespace nextscale
