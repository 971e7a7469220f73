// What a caller asks of the engine, and the one list of its fields: the conversion from JavaScript
// (native/addon/convert.cc) and the engine's own check walk over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "native/model/condition.h"
#include "native/model/config.h"

namespace nextscale {

enum class Preview { kNone, kLinear, kDecode };

struct Request {
  std::vector<int32_t> labels;  // [images, num_mixed]
  uint32_t num_mixed = 1;       // classes that are mixed for each image
  std::vector<float> weights;   // [images, num_mixed], of their embeddings; empty: 1, of one class each
  uint64_t seed = 0;
  uint64_t first_image = 0;     // counter of the first image's random numbers
  std::vector<float> guidance;  // t per scale; all zero: the unconditional branch is not run
  uint32_t top_k = 0;           // 0 = off
  float top_p = 0.0f;           // 0 = off
  std::vector<int32_t> depths;  // per scale
  double deadline_ms = 0;       // 0 = none
  std::vector<int32_t> deadline_depths;
  bool keep_dropped_cache = false;
  bool wait = true;
  Preview preview = Preview::kNone;
  std::vector<int32_t> given_tokens;  // empty, or [images, num_tokens]: the token, or kDraw
  bool losses = false;                // all tokens given: the cross entropy of each, without guidance
  bool capture = false;

  static constexpr int32_t kDraw = -1;

  size_t num_images() const { return num_mixed == 0 ? 0 : labels.size() / num_mixed; }  // 0: not yet checked
};

// What a field may hold.
struct Limits {
  double low = std::numeric_limits<double>::lowest();  // of the number, or of every number of a list; never NaN
  double high = std::numeric_limits<double>::max();
  size_t least = 0, most = std::numeric_limits<size_t>::max();  // numbers in a list
  bool optional = false;                                        // a list that may be left out: empty
  bool ascending = false;
};

// Calls visit(name, field, limits) for every field, in an order in which the limits of a field depend on earlier fields
// only. Names are those of NativeRequest (lib/native/contract.ts).
template <typename AnyRequest, typename Visitor>
void ForEach(AnyRequest& request, const ModelConfig& config, const Visitor& visit) {
  constexpr size_t kMaxImages = size_t{1} << 20;
  constexpr double kMaxFloat = std::numeric_limits<float>::max();
  const size_t num_scales = config.num_scales();
  const auto codes = static_cast<double>(config.tokenizer.codebook_size);
  const auto full_depth = static_cast<double>(config.transformer.depth), shallowest = full_depth < 2 ? 1.0 : 2.0;
  visit("numMixed", request.num_mixed, Limits{.low = 1, .high = ConditionSpec::kMostClasses});
  visit("labels", request.labels,
        Limits{.low = 0, .high = static_cast<double>(config.transformer.num_classes), .least = 1, .most = kMaxImages});
  visit("weights", request.weights,
        Limits{.low = 0, .high = 1, .least = request.labels.size(), .most = request.labels.size(), .optional = true});
  visit("seed", request.seed, Limits{});
  visit("firstImage", request.first_image, Limits{});
  visit("guidance", request.guidance,
        Limits{.low = -kMaxFloat, .high = kMaxFloat, .least = num_scales, .most = num_scales});
  visit("topK", request.top_k, Limits{.low = 0, .high = codes});
  visit("topP", request.top_p, Limits{.low = 0, .high = kMaxFloat});
  visit("depths", request.depths,
        Limits{.low = shallowest, .high = full_depth, .least = num_scales, .most = num_scales});
  visit("deadlineMs", request.deadline_ms, Limits{.low = 0});
  visit("deadlineDepths", request.deadline_depths, Limits{.low = shallowest, .high = full_depth, .ascending = true});
  visit("keepDroppedCache", request.keep_dropped_cache, Limits{});
  visit("wait", request.wait, Limits{});
  visit("preview", request.preview, Limits{});
  const size_t num_tokens = request.num_images() * config.num_tokens();
  visit("givenTokens", request.given_tokens,
        Limits{.low = Request::kDraw, .high = codes - 1, .least = num_tokens, .most = num_tokens, .optional = true});
  visit("losses", request.losses, Limits{});
  visit("capture", request.capture, Limits{});
}

// Throws Error(kInvalidArgument): which field, what was found and what was expected.
void CheckRequest(const Request& request, const ModelConfig& config);

// Whether any of these tokens is to be drawn; null: all are.
bool AnyDrawn(const int32_t* given, size_t num_tokens);

}  // namespace nextscale
