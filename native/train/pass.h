// One teacher-forced pass of a few images: forward, loss, and the way back.
//
// Reference: VAR.forward and torch's autograd over it; elastic depth as RowLayout says. The gradient of a pass is added
// to what the run of gradients holds, so passes accumulate.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "native/tokenizer/quantizer.h"
#include "native/train/activations.h"
#include "native/train/packed_network.h"
#include "native/train/parameters.h"
#include "native/train/row_layout.h"

namespace nextscale {

struct PassInput {
  std::span<const int32_t> tokens;  // [images, num_tokens]
  std::span<const int32_t> labels;  // [images]
};

struct PassLoss {
  float smoothing = 0.0f;
  float gradient_factor = 0.0f;  // 1 / tokens of the whole step
};

class Pass {
 public:
  // Throws kAborted from Forward and Backward soon after `stop` was set.
  Pass(const ModelConfig& config, const ParameterLayout& layout, const SubnetTable& subnets, Quantizer& quantizer,
       const PassOptions& options, const std::atomic<bool>& stop);

  void SetPlan(std::span<const int32_t> depths) { rows_.SetPlan(depths); }
  bool Runs(size_t block_index) const { return rows_.Runs(block_index); }

  // Runs everything up to the logits, which then stand in logits().
  void Forward(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input);
  // Losses of every token, [images, num_tokens]; turns the logits into their gradient when there is a gradient factor.
  std::span<const float> Loss(Context& context, const PassInput& input, const PassLoss& loss);
  // After Forward and Loss with a gradient factor: gradient += that of the pass.
  void Backward(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input,
                float* gradient);

  const float* logits() const { return memory_.wide1.as<float>(); }  // [rows, logits_stride]
  size_t logits_stride() const { return memory_.wide_stride; }

 private:
  void TeacherInput(const PassInput& input);
  void Condition(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input);
  void Embed(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input);
  void FillRows(size_t block_index, size_t num_images);
  void ForwardBlock(Context& context, const float* weights, const PackedNetwork& network, size_t block_index);
  void Attend(Context& context, const PackedBlock& block, BlockActivations& kept);
  void FeedForward(Context& context, const float* weights, const PackedNetwork& network, size_t block_index);
  void ModulateRows(Context& context, const Buffer& normal, size_t gain_chunk, size_t shift_chunk, float* out) const;

  void BackwardHead(Context& context, const PackedNetwork& network, size_t num_images, float* gradient);
  void BackwardFeedForward(Context& context, const PackedNetwork& network, size_t block_index, float* gradient);
  void BackwardAttention(Context& context, const float* weights, const PackedNetwork& network, size_t block_index,
                         float* gradient);
  void BackwardEmbed(Context& context, const PassInput& input, float* gradient);
  void BackwardCondition(Context& context, const float* weights, const PackedNetwork& network, const PassInput& input,
                         float* gradient);
  void AddWeightGradient(Context& context, const LinearPlace& place, const float* dy, size_t dy_stride, const float* a,
                         size_t a_stride, size_t num_rows, float* gradient, float* bias_gradient);
  float* BlockModulations(size_t block_index) const;
  float* BlockModulationGradients(size_t block_index) const;
  void CheckStop() const;

  const ModelConfig& config_;
  const ParameterLayout& layout_;
  const ScaleSchedule schedule_;
  const PassOptions options_;
  const std::atomic<bool>& stop_;
  Quantizer& quantizer_;
  RowLayout rows_;
  BlockRows block_rows_;
  Activations memory_;
  Buffer f_hat_;  // [P², E]
};

}  // namespace nextscale
