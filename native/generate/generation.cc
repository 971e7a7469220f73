#include "native/generate/generation.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;

void CheckDepth(int32_t depth, size_t full_depth, const char* what) {
  const int32_t low = full_depth == 1 ? 1 : 2, high = static_cast<int32_t>(full_depth);
  NS_REQUIRE(depth >= low && depth <= high, kBad, what, " must be from ", low, " to ", high, ", found ", depth);
}

}  // namespace

void CheckRequest(const Request& request, const ModelConfig& config) {
  const size_t num_scales = config.num_scales(), num_images = request.labels.size();
  NS_REQUIRE(num_images >= 1, kBad, "labels: expected at least one");
  for (int32_t label : request.labels) {
    NS_REQUIRE(label >= 0 && static_cast<size_t>(label) <= config.transformer.num_classes, kBad,
               "label must be from 0 to ", config.transformer.num_classes, ", found ", label);
  }
  NS_REQUIRE(request.guidance.size() == num_scales, kBad, "guidance: expected ", num_scales, " numbers, found ",
             request.guidance.size());
  for (float t : request.guidance) NS_REQUIRE(std::isfinite(t), kBad, "guidance must be finite, found ", t);
  NS_REQUIRE(request.depths.size() == num_scales, kBad, "depths: expected ", num_scales, " numbers, found ",
             request.depths.size());
  for (int32_t depth : request.depths) CheckDepth(depth, config.transformer.depth, "depth");
  NS_REQUIRE(request.top_k <= config.tokenizer.codebook_size, kBad, "top_k must be at most ",
             config.tokenizer.codebook_size, ", found ", request.top_k);
  NS_REQUIRE(std::isfinite(request.top_p), kBad, "top_p must be finite, found ", request.top_p);
  NS_REQUIRE(std::isfinite(request.deadline_ms) && request.deadline_ms >= 0, kBad,
             "deadline must not be negative, found ", request.deadline_ms, " ms");
  for (int32_t depth : request.deadline_depths) CheckDepth(depth, config.transformer.depth, "depth of a deadline");
  NS_REQUIRE(std::is_sorted(request.deadline_depths.begin(), request.deadline_depths.end()), kBad,
             "depths of a deadline must ascend");
  const size_t num_forced = request.forced_tokens.size(), num_tokens = num_images * config.num_tokens();
  NS_REQUIRE(num_forced == 0 || num_forced == num_tokens, kBad, "forced tokens: expected ", num_tokens, ", found ",
             num_forced);
  NS_REQUIRE(!request.losses || num_forced != 0, kBad, "losses need forced tokens");
  for (int32_t token : request.forced_tokens) {
    NS_REQUIRE(token >= 0 && static_cast<size_t>(token) < config.tokenizer.codebook_size, kBad,
               "token must be from 0 to ", config.tokenizer.codebook_size - 1, ", found ", token);
  }
}

Generation::Generation(uint64_t generation_id, Request its_request, Listener its_listener)
    : id(generation_id),
      request(std::move(its_request)),
      listener(std::move(its_listener)),
      num_images(request.labels.size()),
      num_branches(std::all_of(request.guidance.begin(), request.guidance.end(), [](float t) { return t == 0; }) ? 1
                                                                                                                 : 2),
      depths(request.depths.begin(), request.depths.end()),
      reasons(depths.size(), DepthReason::kPlan) {}

void Generation::Prepare(Backend& backend, const TransformerWeights& weights, const ModelConfig& config) {
  constexpr const char* kWhat = "a generation";
  std::vector<int32_t> labels(num_sequences());
  for (size_t sequence = 0; sequence < labels.size(); ++sequence) labels[sequence] = LabelOf(sequence, config);
  modulations = std::make_unique<Modulations>(backend, weights, config.transformer.width, labels);
  for (int32_t label : labels) label_index.push_back(modulations->IndexOf(label));
  const size_t most_tokens = num_images * config.side() * config.side();
  const size_t numbers = most_tokens * config.tokenizer.code_dim;
  f_hat = backend.Allocate(numbers * sizeof(float), kWhat);
  for (Buffer& input : inputs) input = backend.Allocate(numbers * DTypeBytes(backend.activation_dtype()), kWhat);
  tokens = backend.Allocate(most_tokens * sizeof(int32_t), kWhat);
  if (request.losses) losses = backend.Allocate(most_tokens * sizeof(float), kWhat);
  if (request.capture) logits = backend.Allocate(most_tokens * config.tokenizer.codebook_size * sizeof(float), kWhat);
  results.resize(config.num_scales());
  for (size_t scale_index = 0; scale_index < results.size(); ++scale_index) {
    const size_t num_tokens = num_images * config.tokenizer.sides[scale_index] * config.tokenizer.sides[scale_index];
    ScaleResult& result = results[scale_index];
    result.tokens.resize(num_tokens);
    if (request.losses) result.losses.resize(num_tokens);
    if (request.preview == Preview::kLinear) result.preview.resize(num_images * config.side() * config.side() * 3);
  }
  start = last_end = Clock::now();
}

void Generation::Shrink() {
  modulations.reset();
  for (Buffer& input : inputs) input = Buffer();
  tokens = Buffer();
  losses = Buffer();
  logits = Buffer();
  scale.result = ScaleResult();
  results.clear();
}

}  // namespace nextscale
