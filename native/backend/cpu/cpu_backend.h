// The ops of model and training on the CPU: each runs when it is issued.
#pragma once

#include <memory>

#include "native/backend/cpu/context.h"
#include "native/ops/training_backend.h"

namespace nextscale {

class CpuBackend : public TrainingBackend {
 public:
  // num_threads: the calling thread included.
  explicit CpuBackend(size_t num_threads) : context_(num_threads) {}

  static size_t OwnBytes(size_t num_threads) { return num_threads * Context::kScratchBytes; }

  Context& context() { return context_; }

  std::string_view name() const override { return "cpu"; }
  DType activation_dtype() const override { return DType::kF32; }
  bool immediate() const override { return true; }
  size_t batch_rows(size_t width) const override;
  size_t part_rows(size_t, size_t) const override { return 1024; }

  Buffer Allocate(size_t bytes, const char* what) override;
  void Upload(void* to, const void* from, size_t bytes) override { Copy(to, from, bytes); }
  void Download(void* to, const void* from, size_t bytes) override { Copy(to, from, bytes); }
  void Copy(void* to, const void* from, size_t bytes) override;
  void Clear(void* at, size_t bytes) override;
  void Section() override {}
  void Wait() override {}

  PackedMatrix PackMatrix(const TensorView& weights, const char* name) override;
  PackedConv PackConv(const TensorView& weights, const std::vector<float>& bias, const char* name, ConvUse) override;
  Codebook MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) override;

  void Linear(const LinearArgs& args) override;
  void ModulatedNorm(const ModulatedNormArgs& args) override;
  void Qkv(const LinearArgs& linear, const SplitHeadsArgs& split) override;
  void Attention(const AttentionArgs& args) override;
  void Embed(const EmbedArgs& args) override;
  void Condition(const ConditionArgs& args) override;
  void AddOffset(const AddOffsetArgs& args) override;
  void Sample(std::span<const SampleArgs> images) override;
  void CrossEntropy(const CrossEntropyArgs& args) override;

  size_t AddCodesWorkspace(const AddCodesArgs& args) override;
  void AddCodes(const AddCodesArgs& args) override;
  void AreaDown(const AreaDownArgs& args) override;
  void NearestCode(const NearestCodeArgs& args) override;
  size_t ConvWorkspace(const ConvArgs& args) override;
  void Conv(const ConvArgs& args) override;
  size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups) override;
  void GroupNorm(const GroupNormArgs& args) override;
  void NormalizeMap(const NormalizeMapArgs& args) override;
  void ImageToMap(const ImageToMapArgs& args) override;
  void MapToImage(const MapToImageArgs& args) override;

  bool Supports(TrainingOp) const override { return true; }
  size_t own_bytes() const override { return OwnBytes(context_.pool().size()); }
  PackedMatrix MakePackedMatrix(size_t n, size_t k) override;
  void Repack(const float* weights, PackedMatrix& packed) override;
  void RepackTransposed(const float* weights, PackedMatrix& packed) override;
  void Modulate(const ModulateArgs& args) override;
  void ModulatedNormGradient(const ModulatedNormGradientArgs& args) override;
  void GatedResidualGradient(const GatedResidualGradientArgs& args) override;
  void SplitHeadsGradient(const SplitHeadsGradientArgs& args) override;
  void AttentionGradient(const AttentionGradientArgs& args) override;
  void HeadFactors(const HeadFactorArgs& args) override;
  void HeadFactorsGradient(const HeadFactorGradientArgs& args) override;
  void GeluGradient(const GeluGradientArgs& args) override;
  void WeightGradient(const WeightGradientArgs& args) override;
  void EmbedGradient(const EmbedGradientArgs& args) override;
  void ConditionGradient(const ConditionGradientArgs& args) override;
  double SquaredNorm(const float* values, size_t count) override;
  void AdamW(const AdamWArgs& args) override;

 private:
  Context context_;
};

inline std::unique_ptr<Backend> MakeCpuBackend(size_t num_threads) { return std::make_unique<CpuBackend>(num_threads); }

}  // namespace nextscale
