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

size_t ConditionSpec::num_classes() const {
  size_t last = 1;
  for (size_t i = 1; i < kMostClasses; ++i) {
    if (shares[i].weight != 0.0f) last = i + 1;
  }
  return last;
}

Conditions::Conditions(Backend& backend, size_t width, size_t most)
    : width_(width),
      starts_(backend.Allocate(most * width * sizeof(float), "conditions")),
      vectors_(backend.Allocate(most * width * DTypeBytes(backend.activation_dtype()), "conditions")) {
  rows_.reserve(most);
}

void Conditions::Make(Backend& backend, const TransformerWeights& weights, std::span<const ConditionSpec> specs) {
  NS_CHECK(specs.size() * width_ * sizeof(float) <= starts_.bytes());
  num_mixed_ = 1;
  for (const ConditionSpec& spec : specs) num_mixed_ = std::max(num_mixed_, spec.num_classes());
  rows_.clear();
  weights_.clear();
  for (const ConditionSpec& spec : specs) {
    for (size_t i = 0; i < num_mixed_; ++i) {
      rows_.push_back(spec.shares[i].label);
      if (num_mixed_ > 1) weights_.push_back(spec.shares[i].weight);
    }
  }
  backend.Condition({.start = starts_.as<float>(),
                     .vector = vectors_.data(),
                     .vector_dtype = backend.activation_dtype(),
                     .width = width_,
                     .embedding = weights.class_embedding.as<float>(),
                     .num_mixed = num_mixed_,
                     .rows = rows_,
                     .weights = weights_});
}

void Conditions::AddGradient(TrainingBackend& backend, const float* dstarts, const float* dvectors,
                             float* dembedding) const {
  NS_CHECK(num_mixed_ == 1);
  backend.ConditionGradient({.dembedding = dembedding,
                             .dstart = dstarts,
                             .dvector = dvectors,
                             .start = starts(),
                             .width = width_,
                             .rows = rows_});
}

}  // namespace nextscale
