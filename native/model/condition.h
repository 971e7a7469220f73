// What an image shall show, from a description to what the network reads. Nothing below this room knows labels.
//
// A description is one label today. Whatever else it may say later (a mix of classes with weights, a text's embedding)
// ends here as well: a start token and the vector that every modulation is made of.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/model/weights.h"
#include "native/ops/training_backend.h"

namespace nextscale {

struct ConditionSpec {
  int32_t label = 0;  // in [0, num_classes]; num_classes is "no class"

  friend auto operator<=>(const ConditionSpec&, const ConditionSpec&) = default;
};

// Leaves the distinct ones in `specs`; returns the place there of each that was given.
std::vector<size_t> Distinct(std::vector<ConditionSpec>& specs);

class Conditions {
 public:
  // Room for `most` of them. Throws Error(kOutOfMemory).
  Conditions(Backend& backend, size_t width, size_t most);
  static size_t Bytes(size_t width, size_t most) {
    return 2 * most * width * sizeof(float);
  }  // with activations in f32

  // Issues. specs: at most `most`.
  void Make(Backend& backend, const TransformerWeights& weights, std::span<const ConditionSpec> specs);
  // dembedding [num_classes + 1, C] += what the gradients of start tokens and vectors, [size, C] each, come to.
  void AddGradient(TrainingBackend& backend, const float* dstarts, const float* dvectors, float* dembedding) const;

  size_t size() const { return rows_.size(); }
  const float* starts() const { return starts_.as<float>(); }  // [size, C]
  const void* vectors() const { return vectors_.data(); }      // [size, C], activations

 private:
  size_t width_;
  std::vector<int32_t> rows_;  // of the class embedding
  Buffer starts_, vectors_;
};

}  // namespace nextscale
