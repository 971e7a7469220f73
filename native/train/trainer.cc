#include "native/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <string>

#include "native/base/error.h"
#include "native/train/initialize.h"
#include "native/train/pass.h"

namespace nextscale {

struct Trainer::Impl {
  Impl(std::unique_ptr<TrainingBackend> training_backend, const ModelConfig& model_config, const TensorTable& tensors,
       const TrainerOptions& trainer_options)
      : backend((RequireTrainingOps(*training_backend), std::move(training_backend))),
        config(model_config),
        options(trainer_options),
        schedule(config.tokenizer.sides),
        layout(config),
        subnets(config.transformer.depth, options.strategy),
        quantizer(*backend, config.tokenizer, tensors),
        network(*backend, config, layout),
        pass(*backend, config, layout, subnets, quantizer,
             {.micro_batch = options.micro_batch, .checkpointing = options.checkpointing}, stop),
        weights(Run()),
        gradient(Run()),
        mean(Run()),
        variance(Run()),
        average(options.average ? Run() : Buffer()) {
    std::vector<float> values;
    for (size_t i = 0; i < layout.all().size(); ++i) {
      values = options.initial_seed.has_value() ? InitialValues(config, layout.tensors(), i, *options.initial_seed)
                                                : tensors.Floats(layout.all()[i].file_name(), layout.all()[i].shape);
      backend->Upload(weights.as<float>() + layout.offset(i), values.data(), values.size() * sizeof(float));
    }
    if (options.average) backend->Copy(average.data(), weights.data(), Bytes());
    backend->Wait();
  }

  size_t Bytes() const { return layout.size() * sizeof(float); }
  Buffer Run() { return backend->Allocate(Bytes(), "a trainer"); }

  void Check(const TrainInput& input) const {
    const size_t count = input.labels.size();
    NS_REQUIRE(count > 0, ErrorCode::kInvalidArgument, "no images; expected at least one");
    NS_REQUIRE(input.tokens.size() == count * schedule.num_tokens, ErrorCode::kInvalidArgument, "tokens has ",
               input.tokens.size(), " elements; expected ", count, " images of ", schedule.num_tokens);
    const auto in_range = [](const char* what, std::span<const int32_t> values, size_t least, size_t most) {
      for (size_t i = 0; i < values.size(); ++i) {
        NS_REQUIRE(values[i] >= 0 && static_cast<size_t>(values[i]) >= least && static_cast<size_t>(values[i]) <= most,
                   ErrorCode::kInvalidArgument, what, "[", i, "] is ", values[i], "; expected ", least, " to ", most);
      }
    };
    in_range("labels", input.labels, 0, config.transformer.num_classes);
    in_range("tokens", input.tokens, 0, config.tokenizer.codebook_size - 1);
    NS_REQUIRE(input.depths.size() == schedule.num_scales(), ErrorCode::kInvalidArgument, "depths has ",
               input.depths.size(), " elements; expected one for each of ", schedule.num_scales(), " scales");
    in_range("depths", input.depths, subnets.shallowest(), subnets.full_depth());
  }

  // Packs the weights or their average, unless they are packed already.
  void Pack(bool of_average) {
    if (packed && packed_average == of_average) return;
    network.Repack((of_average ? average : weights).as<float>());
    packed = true;
    packed_average = of_average;
  }

  // Calls body(pass_input, first image) for one micro-batch after the other.
  template <typename Body>
  void ForEachPass(const TrainInput& input, const Body& body) {
    pass.SetPlan(input.depths);
    const size_t count = input.labels.size();
    for (size_t first = 0; first < count; first += options.micro_batch) {
      const size_t size = std::min(options.micro_batch, count - first);
      body(PassInput{.tokens = input.tokens.subspan(first * schedule.num_tokens, size * schedule.num_tokens),
                     .labels = input.labels.subspan(first, size)},
           first);
    }
  }

  void AddLosses(std::span<const float> losses, size_t first_image, std::vector<double>& sums) const {
    for (size_t k = 0; k < schedule.num_scales(); ++k) {
      for (size_t image = 0; image < losses.size() / schedule.num_tokens; ++image) {
        const float* const row = losses.data() + image * schedule.num_tokens + schedule.offsets[k];
        for (size_t i = 0; i < schedule.tokens[k]; ++i) {
          NS_REQUIRE(std::isfinite(row[i]), ErrorCode::kNotFinite, "the loss of scale ", k, " of image ",
                     first_image + image, " of the batch is ", row[i]);
          sums[k] += row[i];
        }
      }
    }
  }

  double GradientNorm() {
    const double squared = backend->SquaredNorm(gradient.as<float>(), layout.size());
    if (std::isfinite(squared)) return std::sqrt(squared);
    for (const Parameter& parameter : layout.all()) {
      const double own = backend->SquaredNorm(gradient.as<float>() + parameter.offset, parameter.count);
      NS_REQUIRE(std::isfinite(own), ErrorCode::kNotFinite, "the gradient of \"", parameter.name,
                 "\" is not finite (its squared norm is ", own, ")");
    }
    throw Error(ErrorCode::kNotFinite, Message("the squared norm of the gradient is ", squared));
  }

  void Update(const StepOptions& step, double norm) {
    ++steps;
    AdamWArgs args;
    args.gradient_factor = step.clip_norm > 0 && norm > step.clip_norm ? step.clip_norm / (norm + 1e-6) : 1.0;
    args.learning_rate = step.learning_rate;
    args.beta1 = step.beta1;
    args.beta2 = step.beta2;
    args.epsilon = step.epsilon;
    args.correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(steps));
    args.correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(steps));
    args.average_decay = step.average_decay;
    const std::vector<Parameter>& all = layout.all();
    const auto active = [&](const Parameter& parameter) {
      return !parameter.block_index.has_value() || pass.Runs(*parameter.block_index);
    };
    const auto decays = [&](const Parameter& parameter) { return parameter.decay || step.decay_all; };
    // Neighbours that are treated alike are one run; what lies between them is zero and stays so.
    for (size_t i = 0, end = 0; i < all.size(); i = end) {
      end = i + 1;
      if (!active(all[i])) continue;
      while (end < all.size() && active(all[end]) && decays(all[end]) == decays(all[i])) ++end;
      const size_t offset = all[i].offset;
      args.weights = weights.as<float>() + offset;
      args.gradient = gradient.as<float>() + offset;
      args.mean = mean.as<float>() + offset;
      args.variance = variance.as<float>() + offset;
      args.average = options.average ? average.as<float>() + offset : nullptr;
      args.count = all[end - 1].offset + all[end - 1].count - offset;
      args.weight_decay = decays(all[i]) ? step.weight_decay : 0.0;
      backend->AdamW(args);
    }
    packed = false;
  }

  const Buffer& Array(TrainerArray array) const {
    switch (array) {
      case TrainerArray::kWeights:
        return weights;
      case TrainerArray::kGradient:
        return gradient;
      case TrainerArray::kMean:
        return mean;
      case TrainerArray::kVariance:
        return variance;
      case TrainerArray::kAverage:
        NS_REQUIRE(options.average, ErrorCode::kInvalidArgument, "the trainer keeps no average of its weights");
        return average;
    }
    throw Error(ErrorCode::kInternal, "no such array");
  }

  float* Numbers(TrainerArray array, std::string_view name, size_t count) const {
    const Parameter& parameter = layout.Find(name);
    NS_REQUIRE(count == parameter.count, ErrorCode::kInvalidArgument, "parameter \"", name, "\" has ", parameter.count,
               " numbers; found room for ", count);
    return Array(array).as<float>() + parameter.offset;
  }

  const std::unique_ptr<TrainingBackend> backend;  // outlives every buffer
  const ModelConfig config;
  const TrainerOptions options;
  const ScaleSchedule schedule;
  const ParameterLayout layout;
  const SubnetTable subnets;
  std::mutex in_flight;  // held during a call
  std::atomic<bool> stop{false};
  Quantizer quantizer;
  PackedNetwork network;
  Pass pass;
  Buffer weights, gradient, mean, variance, average;  // [layout.size()]
  uint64_t steps = 0;
  bool packed = false, packed_average = false;
};

Trainer::Trainer(std::unique_ptr<TrainingBackend> backend, const ModelConfig& config, const TensorTable& tensors,
                 const TrainerOptions& options)
    : impl_((Validate(config), std::make_unique<Impl>(std::move(backend), config, tensors, options))) {}
Trainer::~Trainer() = default;

StepResult Trainer::Step(const TrainInput& input, const StepOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  Impl& impl = *impl_;
  const std::lock_guard lock(impl.in_flight);
  impl.Check(input);
  impl.Pack(/*of_average=*/false);
  const size_t num_scales = impl.schedule.num_scales(), count = input.labels.size();
  impl.backend->Clear(impl.gradient.data(), impl.Bytes());
  StepResult result;
  result.loss_per_scale.assign(num_scales, 0.0);
  const PassLoss loss{.smoothing = options.label_smoothing,
                      .gradient_factor = 1.0f / static_cast<float>(input.tokens.size())};
  impl.ForEachPass(input, [&](const PassInput& images, size_t first) {
    impl.pass.Forward(impl.network, images);
    impl.AddLosses(impl.pass.Loss(images, loss), first, result.loss_per_scale);
    impl.pass.Backward(impl.network, impl.weights.as<float>(), impl.gradient.as<float>());
  });
  for (size_t k = 0; k < num_scales; ++k) {
    result.loss += result.loss_per_scale[k] / static_cast<double>(input.tokens.size());
    result.loss_per_scale[k] /= static_cast<double>(count * impl.schedule.tokens[k]);
  }
  result.gradient_norm = impl.GradientNorm();
  if (options.update) impl.Update(options, result.gradient_norm);
  result.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

void Trainer::Evaluate(const TrainInput& input, bool average, float* losses) {
  Impl& impl = *impl_;
  const std::lock_guard lock(impl.in_flight);
  impl.Check(input);
  if (average) impl.Array(TrainerArray::kAverage);  // refuses when none is kept
  impl.Pack(average);
  impl.ForEachPass(input, [&](const PassInput& images, size_t first) {
    impl.pass.Forward(impl.network, images);
    const std::span<const float> found = impl.pass.Loss(images, {});
    std::copy(found.begin(), found.end(), losses + first * impl.schedule.num_tokens);
  });
}

void Trainer::Logits(const TrainInput& input, float* logits) {
  Impl& impl = *impl_;
  const std::lock_guard lock(impl.in_flight);
  impl.Check(input);
  impl.Pack(/*of_average=*/false);
  const size_t codebook_size = impl.config.tokenizer.codebook_size;
  impl.ForEachPass(input, [&](const PassInput& images, size_t first) {
    impl.pass.Forward(impl.network, images);
    const HeadMemory head = impl.pass.head();
    for (size_t row = 0; row < images.tokens.size(); ++row) {
      impl.backend->Download(logits + (first * impl.schedule.num_tokens + row) * codebook_size,
                             head.logits + row * head.logits_stride, codebook_size * sizeof(float));
    }
    impl.backend->Wait();
  });
}

const ParameterLayout& Trainer::layout() const { return impl_->layout; }
const ModelConfig& Trainer::config() const { return impl_->config; }
size_t Trainer::memory_bytes() const {
  return TrainerBytes(impl_->config, impl_->options) + impl_->backend->own_bytes();
}

void Trainer::Read(TrainerArray array, std::string_view name, std::span<float> out) const {
  impl_->backend->Download(out.data(), impl_->Numbers(array, name, out.size()), out.size_bytes());
  impl_->backend->Wait();
}

void Trainer::Write(TrainerArray array, std::string_view name, std::span<const float> values) {
  impl_->backend->Upload(impl_->Numbers(array, name, values.size()), values.data(), values.size_bytes());
  impl_->backend->Wait();
  impl_->packed = false;
}

uint64_t Trainer::steps() const { return impl_->steps; }
void Trainer::set_steps(uint64_t steps) { impl_->steps = steps; }
void Trainer::Wait() { const std::lock_guard lock(impl_->in_flight); }
void Trainer::Stop() { impl_->stop.store(true, std::memory_order_relaxed); }

size_t TrainerBytes(const ModelConfig& config, const TrainerOptions& options) {
  Validate(config);
  const size_t arrays = options.average ? 5 : 4;
  return arrays * ParameterLayout(config).size() * sizeof(float) + PackedNetwork::Bytes(config) +
         Pass::Bytes(config, {.micro_batch = options.micro_batch, .checkpointing = options.checkpointing});
}

}  // namespace nextscale
