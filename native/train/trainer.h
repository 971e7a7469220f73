// A trainer: f32 master weights, gradients by teacher-forced passes, AdamW.
//
// A step's batch is cut into passes of at most micro_batch images whose gradients add up; the cut changes rounding, not
// meaning. With the same options and thread-independent ops a step is a function of its input and the trainer's state
// alone. One call at a time, from any thread; Stop may come from any other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "native/model/config.h"
#include "native/model/subnet.h"
#include "native/ops/training_backend.h"
#include "native/tensor/tensor_table.h"
#include "native/train/parameters.h"

namespace nextscale {

struct TrainerOptions {
  size_t micro_batch = 1;
  bool checkpointing = false;
  bool average = false;  // keep an exponential average of the weights
  Strategy strategy = Strategy::kEven;
  std::optional<uint64_t> initial_seed = std::nullopt;  // weights from Initialize instead of from tensors
};

// Teacher-forced images and the depth plan that they run.
struct TrainInput {
  std::span<const int32_t> tokens;  // [count, num_tokens], in [0, V)
  std::span<const int32_t> labels;  // [count], in [0, num_classes]
  std::span<const int32_t> depths;  // [num_scales]
};

struct StepOptions {
  float label_smoothing = 0.0f;
  double learning_rate = 0.0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.0;
  bool decay_all = false;  // also what the reference never decays
  double clip_norm = 0.0;  // 0 = off
  double average_decay = 0.0;
  bool update = true;  // false: gradients only
};

struct StepResult {
  double loss = 0.0;                   // mean over all tokens
  std::vector<double> loss_per_scale;  // mean over the tokens of each
  double gradient_norm = 0.0;          // before clipping
  double ms = 0.0;
};

enum class TrainerArray { kWeights, kGradient, kMean, kVariance, kAverage };

class Trainer {
 public:
  // Reads "vae.quantize.*" and, without an initial seed, every "var.*" parameter from `tensors`, which need not outlive
  // the constructor. Throws Error(kInvalidArgument) with the name of an op that the device lacks, before it takes any
  // memory; Error(kInvalidCheckpoint, kNotFinite, kOutOfMemory).
  Trainer(std::unique_ptr<TrainingBackend> backend, const ModelConfig& config, const TensorTable& tensors,
          const TrainerOptions& options);
  ~Trainer();
  Trainer(const Trainer&) = delete;

  // One step. The update leaves alone what took no part: the parameters of blocks that no scale ran.
  // Throws Error(kInvalidArgument) for bad input; Error(kNotFinite) naming scale and image, or the first parameter,
  // when a loss or a gradient is NaN or infinite: weights and moments are then unchanged; Error(kAborted) after Stop.
  StepResult Step(const TrainInput& input, const StepOptions& options);
  // Cross entropy of every token, nats, [count, num_tokens].
  void Evaluate(const TrainInput& input, bool average, float* losses);
  // [count, num_tokens, V].
  void Logits(const TrainInput& input, float* logits);

  const ParameterLayout& layout() const;
  const ModelConfig& config() const;
  size_t memory_bytes() const;  // TrainerBytes of this one, and the backend's own
  // The numbers of one parameter. Throws Error(kInvalidArgument): no such parameter, another length, no average kept.
  void Read(TrainerArray array, std::string_view name, std::span<float> out) const;
  void Write(TrainerArray array, std::string_view name, std::span<const float> values);
  // Updates done: the t of the bias corrections.
  uint64_t steps() const;
  void set_steps(uint64_t steps);

  // Ends the call in flight, within one block, with kAborted; later ones too.
  void Stop();
  // Returns when no call is in flight.
  void Wait();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Bytes that a trainer will take, all at once, when it is made; what its backend holds for itself comes on top.
size_t TrainerBytes(const ModelConfig& config, const TrainerOptions& options);

}  // namespace nextscale
