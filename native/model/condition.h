// What an image shall show, from a description to what the network reads. Nothing below this room knows labels.
//
// A description is a class, or a mix of several with weights. Whatever else it may say later (a text's embedding) ends here as
// well: a start token and the vector that every modulation is made of.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/model/weights.h"
#include "native/ops/training_backend.h"

namespace nextscale {

// Shares of class embeddings. Those of weight 0 are none.
struct ConditionSpec {
  static constexpr size_t kMostClasses = 8;
  struct Share {
    int32_t label = 0;  // in [0, num_classes]; num_classes is "no class"
    float weight = 0.0f;

    friend auto operator<=>(const Share&, const Share&) = default;
  };
  std::array<Share, kMostClasses> shares = {};

  static ConditionSpec Class(int32_t label) {
    ConditionSpec spec;
    spec.shares[0] = {.label = label, .weight = 1.0f};
    return spec;
  }
  size_t num_classes() const;  // that have a share, at least 1

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
  // Of conditions that are one class each. dembedding [num_classes + 1, C] += what the gradients of start tokens and vectors, [size, C] each, come to.
  void AddGradient(TrainingBackend& backend, const float* dstarts, const float* dvectors, float* dembedding) const;

  size_t size() const { return rows_.size() / num_mixed_; }
  const float* starts() const { return starts_.as<float>(); }  // [size, C]
  const void* vectors() const { return vectors_.data(); }      // [size, C], activations

 private:
  size_t width_;
  size_t num_mixed_ = 1;
  std::vector<int32_t> rows_;   // of the class embedding, [size, num_mixed_]
  std::vector<float> weights_;  // likewise; empty where every condition is one class
  Buffer starts_, vectors_;
};

}  // namespace nextscale
