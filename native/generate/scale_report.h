// What a listener is told of a scale beside its tokens: times, and what is seen of f_hat so far.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "native/generate/generation.h"
#include "native/ops/backend.h"

namespace nextscale {

class ScaleReporter {
 public:
  ScaleReporter(Backend& backend, const ModelConfig& config) : backend_(backend), config_(config) {}

  // Any thread. [3, E + 1]: RGB in [0, 1] = M · (f_hat, 1). Throws Error(kInvalidArgument) for another size.
  void SetPreviewMatrix(std::vector<float> matrix);

  // The engine's thread, before a generation's first scale: makes the place that Fill needs.
  void Prepare(const Generation& generation);
  // The engine's thread, once all images of a scale are done: fills its result. Allocates nothing (`capture` does).
  void Fill(Generation& generation);

 private:
  const float* ReadLatents(const Generation& generation);  // f_hat of all images, on the host
  void Capture(Generation& generation);
  void LinearPreviewOf(Generation& generation);

  Backend& backend_;
  const ModelConfig config_;
  std::vector<float> latents_;
  std::mutex mutex_;
  std::shared_ptr<const std::vector<float>> matrix_;
};

}  // namespace nextscale
