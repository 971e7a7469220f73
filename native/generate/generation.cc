#include "native/generate/generation.h"

#include <algorithm>
#include <utility>

namespace nextscale {

Generation::Generation(uint64_t generation_id, Request its_request, Listener its_listener)
    : id(generation_id),
      request(std::move(its_request)),
      listener(std::move(its_listener)),
      num_images(request.num_images()),
      num_branches(std::all_of(request.guidance.begin(), request.guidance.end(), [](float t) { return t == 0; }) ? 1
                                                                                                                 : 2) {
  shared_.depths.assign(request.depths.begin(), request.depths.end());
  shared_.reasons.assign(request.depths.size(), DepthReason::kPlan);
}

void Generation::Prepare(Backend& backend, const TransformerWeights& weights, const ModelConfig& config) {
  constexpr const char* kWhat = "a generation";
  std::vector<ConditionSpec> specs;
  for (size_t image = 0; image < num_images; ++image) {
    ConditionSpec spec;
    for (size_t i = 0; i < request.num_mixed; ++i) {
      const size_t at = image * request.num_mixed + i;
      spec.shares[i] = {.label = request.labels[at], .weight = request.weights.empty() ? 1.0f : request.weights[at]};
    }
    specs.push_back(spec);
  }
  if (num_branches == 2) {
    specs.resize(2 * num_images, ConditionSpec::Class(static_cast<int32_t>(config.transformer.num_classes)));
  }
  engine.condition_of = Distinct(specs);
  engine.conditions = std::make_unique<Conditions>(backend, config.transformer.width, specs.size());
  engine.conditions->Make(backend, weights, specs);
  engine.modulations = std::make_unique<Modulations>(backend, config.transformer, specs.size());
  engine.modulations->Make(backend, weights, *engine.conditions);
  const size_t most_tokens = num_images * config.side() * config.side();
  const size_t numbers = most_tokens * config.tokenizer.code_dim;
  engine.f_hat = backend.Allocate(numbers * sizeof(float), kWhat);
  for (Buffer& input : engine.inputs) input = backend.Allocate(numbers * DTypeBytes(backend.activation_dtype()), kWhat);
  engine.tokens = backend.Allocate(most_tokens * sizeof(int32_t), kWhat);
  if (request.losses) engine.losses = backend.Allocate(most_tokens * sizeof(float), kWhat);
  if (request.capture)
    engine.logits = backend.Allocate(most_tokens * config.tokenizer.codebook_size * sizeof(float), kWhat);
  engine.results.resize(config.num_scales());
  for (size_t scale_index = 0; scale_index < engine.results.size(); ++scale_index) {
    const size_t num_tokens = num_images * config.tokenizer.sides[scale_index] * config.tokenizer.sides[scale_index];
    ScaleResult& result = engine.results[scale_index];
    result.tokens.resize(num_tokens);
    if (request.losses) result.losses.resize(num_tokens);
    if (request.preview == Preview::kLinear) result.preview.resize(num_images * config.side() * config.side() * 3);
  }
  engine.start = engine.last_end = Clock::now();
}

void Generation::Shrink() {
  engine.conditions.reset();
  engine.modulations.reset();
  for (Buffer& input : engine.inputs) input = Buffer();
  engine.tokens = Buffer();
  engine.losses = Buffer();
  engine.logits = Buffer();
  engine.scale.result = ScaleResult();
  engine.results.clear();
}

}  // namespace nextscale
