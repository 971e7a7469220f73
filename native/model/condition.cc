#include "native/model/condition.h"

#include <algorithm>

#include "native/base/error.h"

namespace nextscale {

std::vector<size_t> Distinct(std::vector<ConditionSpec>& specs) {
  const std::vector<ConditionSpec> given = specs;
  std::sort(specs.begin(), specs.end());
  specs.erase(std::unique(specs.begin(), specs.end()), specs.end());
  std::vector<size_t> places;
  for (const ConditionSpec& spec : given) {
    places.push_back(static_cast<size_t>(std::lower_bound(specs.begin(), specs.end(), spec) - specs.begin()));
  }
  return places;
}

Conditions::Conditions(Backend& backend, size_t width, size_t most)
    : width_(width),
      starts_(backend.Allocate(most * width * sizeof(float), "conditions")),
      vectors_(backend.Allocate(most * width * DTypeBytes(backend.activation_dtype()), "conditions")) {
  rows_.reserve(most);
}

void Conditions::Make(Backend& backend, const TransformerWeights& weights, std::span<const ConditionSpec> specs) {
  NS_CHECK(specs.size() * width_ * sizeof(float) <= starts_.bytes());
  rows_.clear();
  for (const ConditionSpec& spec : specs) rows_.push_back(spec.label);
  backend.Condition({.start = starts_.as<float>(),
                     .vector = vectors_.data(),
                     .vector_dtype = backend.activation_dtype(),
                     .width = width_,
                     .embedding = weights.class_embedding.as<float>(),
                     .rows = rows_});
}

void Conditions::AddGradient(TrainingBackend& backend, const float* dstarts, const float* dvectors,
                             float* dembedding) const {
  backend.ConditionGradient({.dembedding = dembedding,
                             .dstart = dstarts,
                             .dvector = dvectors,
                             .start = starts(),
                             .width = width_,
                             .rows = rows_});
}

}  // namespace nextscale
