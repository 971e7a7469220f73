// One teacher-forced pass of a few images: forward, loss, and the way back.
//
// Reference: VAR.forward and torch's autograd over it; elastic depth as RowLayout says. The gradient of a pass is added
// to what the run of gradients holds, so passes accumulate.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "native/model/modulation.h"
#include "native/ops/training_backend.h"
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
  Pass(TrainingBackend& backend, const ModelConfig& config, const ParameterLayout& layout, const SubnetTable& subnets,
       Quantizer& quantizer, const PassOptions& options, const std::atomic<bool>& stop);
  // All that it takes.
  static size_t Bytes(const ModelConfig& config, const PassOptions& options);

  void SetPlan(std::span<const int32_t> depths) { rows_.SetPlan(depths); }
  bool Runs(size_t block_index) const { return rows_.Runs(block_index); }

  // Issues everything up to the logits, which then stand in logits().
  void Forward(const PackedNetwork& network, const PassInput& input);
  // Losses of every token, [images, num_tokens]; turns the logits into their gradient when there is a gradient factor.
  // Waits. The result is valid until the next call.
  std::span<const float> Loss(const PassInput& input, const PassLoss& loss);
  // After Forward and Loss with a gradient factor: gradient += that of the pass. weights: the run that the network was
  // packed from.
  void Backward(const PackedNetwork& network, const float* weights, float* gradient);

  HeadMemory head() const { return memory_.Head(); }  // logits of every row

 private:
  // Of the pass that runs backward.
  struct WayBack {
    const PackedNetwork& network;
    const float* weights;
    float* gradient;
  };

  void TeacherInput(const PassInput& input);
  void Embed(const TransformerWeights& weights);
  void FillRows(size_t block_index);
  void FillHeadRows();
  void ForwardBlock(const TransformerWeights& weights, size_t block_index);

  void BackwardHead(const WayBack& way);
  void BackwardFeedForward(const WayBack& way, size_t block_index);
  void BackwardAttention(const WayBack& way, size_t block_index);
  void BackwardEmbed(const WayBack& way);
  void BackwardConditions(const WayBack& way);
  // The output of a modulated norm, made again from what it kept.
  void Modulate(const KeptNorm& norm, size_t gain_chunk, size_t shift_chunk, float* out);
  void BackwardNorm(const KeptNorm& norm, size_t gain_chunk, size_t shift_chunk, const float* dy);
  void BackwardGate(const float* y, size_t gate_chunk, float* dy);
  // out = dy · W of the block's rows; weights: transposed.
  void BackwardInput(const PackedMatrix& weights, const float* dy, size_t dy_stride, float* out, size_t out_stride);
  void AddWeightGradient(const WayBack& way, size_t weight, float* dbias, const float* dy, size_t dy_stride,
                         const float* a, size_t a_stride, size_t num_rows);
  void Accumulate(float* to, const float* values, size_t count);  // to += values
  size_t RowBytes() const { return conditions_.size() * schedule_.num_tokens * memory_.width_stride * sizeof(float); }
  void CheckStop() const;

  TrainingBackend& backend_;
  const ModelConfig& config_;
  const ParameterLayout& layout_;
  const ScaleSchedule schedule_;
  const PassOptions options_;
  const std::atomic<bool>& stop_;
  Quantizer& quantizer_;
  RowLayout rows_;
  BlockRows block_rows_;
  Activations memory_;
  Conditions conditions_;  // one per image
  Modulations modulations_;
  std::vector<ConditionSpec> specs_;
  std::vector<int32_t> condition_of_;  // 0, 1, ..
  std::vector<float> losses_;
};

}  // namespace nextscale
