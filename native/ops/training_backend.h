// What training asks of a device beyond inference. native/train is written against this class only.
//
// The rules of backend.h hold: ops run in the order of issue, pointers in arguments are the device's, tables are the
// host's. Gradients are added to what is there unless a contract says otherwise, and no result depends on the number of
// threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "native/ops/attention_gradient.h"
#include "native/ops/backend.h"
#include "native/ops/embed_gradient.h"
#include "native/ops/gelu_gradient.h"
#include "native/ops/linear_gradient.h"
#include "native/ops/norm_gradient.h"
#include "native/ops/optimizer.h"

namespace nextscale {

// Everything that training needs of a device: inference's ops where they keep something for the way back (norm.h), and
// the ops below.
enum class TrainingOp : uint8_t {
  kKeptNorm,
  kKeptLinear,
  kKeptQkv,
  kKeptAttention,
  kCrossEntropyGradient,
  kRepack,
  kModulate,
  kModulatedNormGradient,
  kGatedResidualGradient,
  kSplitHeadsGradient,
  kAttentionGradient,
  kHeadFactors,
  kHeadFactorsGradient,
  kGeluGradient,
  kWeightGradient,
  kEmbedGradient,
  kConditionGradient,
  kSquaredNorm,
  kAdamW,
};

// By TrainingOp, for messages.
inline constexpr std::array<std::string_view, 19> kTrainingOpNames = {
    "a ModulatedNorm that keeps",
    "a Linear that keeps",
    "a Qkv that keeps",
    "an Attention that keeps",
    "CrossEntropy with smoothing and a gradient",
    "Repack",
    "Modulate",
    "ModulatedNormGradient",
    "GatedResidualGradient",
    "SplitHeadsGradient",
    "AttentionGradient",
    "HeadFactors",
    "HeadFactorsGradient",
    "GeluGradient",
    "WeightGradient",
    "EmbedGradient",
    "ConditionGradient",
    "SquaredNorm",
    "AdamW",
};

class TrainingBackend : public Backend {
 public:
  // Whether the device has the op. A trainer asks for every op before it takes any memory (RequireTrainingOps).
  virtual bool Supports(TrainingOp op) const = 0;
  // Memory that the ops hold for themselves.
  virtual size_t own_bytes() const = 0;

  // ---- weights that change every step
  // Room for an [n, k] matrix in f32, to be filled by Repack.
  virtual PackedMatrix MakePackedMatrix(size_t n, size_t k) = 0;
  // packed [n, k] = weights [n, k], row-major, contiguous.
  virtual void Repack(const float* weights, PackedMatrix& packed) = 0;
  // packed [n, k] = weightsᵀ, weights [k, n] row-major, contiguous: Linear then computes a · weights.
  virtual void RepackTransposed(const float* weights, PackedMatrix& packed) = 0;

  // ---- transformer
  virtual void Modulate(const ModulateArgs& args) = 0;
  virtual void ModulatedNormGradient(const ModulatedNormGradientArgs& args) = 0;
  virtual void GatedResidualGradient(const GatedResidualGradientArgs& args) = 0;
  virtual void SplitHeadsGradient(const SplitHeadsGradientArgs& args) = 0;
  virtual void AttentionGradient(const AttentionGradientArgs& args) = 0;
  virtual void HeadFactors(const HeadFactorArgs& args) = 0;
  virtual void HeadFactorsGradient(const HeadFactorGradientArgs& args) = 0;
  virtual void GeluGradient(const GeluGradientArgs& args) = 0;
  virtual void WeightGradient(const WeightGradientArgs& args) = 0;
  virtual void EmbedGradient(const EmbedGradientArgs& args) = 0;
  virtual void ConditionGradient(const ConditionGradientArgs& args) = 0;

  // ---- optimizer
  // Σ values², in double precision over pieces of fixed size. NaN or infinity among the values gives NaN or infinity.
  // Returns when everything issued has run.
  virtual double SquaredNorm(const float* values, size_t count) = 0;
  virtual void AdamW(const AdamWArgs& args) = 0;
};

// Throws Error(kInvalidArgument) with the names of device and op when the device lacks one.
void RequireTrainingOps(const TrainingBackend& backend);

}  // namespace nextscale
