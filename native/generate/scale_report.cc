#include "native/generate/scale_report.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"
#include "native/tokenizer/preview.h"

namespace nextscale {

void ScaleReporter::SetPreviewMatrix(std::vector<float> matrix) {
  const size_t numbers = 3 * (config_.tokenizer.code_dim + 1);
  NS_REQUIRE(matrix.size() == numbers, ErrorCode::kInvalidArgument, "preview matrix: expected ", numbers,
             " numbers, found ", matrix.size());
  auto shared = std::make_shared<const std::vector<float>>(std::move(matrix));
  std::lock_guard lock(mutex_);
  matrix_ = std::move(shared);
}

void ScaleReporter::Prepare(const Generation& generation) {
  if (generation.request.preview != Preview::kLinear && !generation.request.capture) return;
  latents_.resize(std::max(latents_.size(), generation.num_images * config_.tokenizer.latent_numbers()));
}

void ScaleReporter::Fill(Generation& generation) {
  EngineSide& engine = generation.engine;
  const EngineSide::Scale& scale = engine.scale;
  ScaleResult& result = engine.scale.result;
  result.index = scale.index;
  result.side = config_.tokenizer.sides[scale.index];
  result.depth = scale.depth;
  result.reason = scale.reason;
  result.scale_ms = scale.step_ms;
  result.elapsed_ms = MsSince(engine.start);
  // How much longer than its share of the steps a scale took, smoothed: a deadline reckons with it.
  const double load = std::max(1.0, MsSince(engine.last_end) / std::max(scale.cost_ms, 1e-6));
  engine.load += 0.5 * (load - engine.load);
  engine.last_end = Clock::now();
  if (generation.request.capture) Capture(generation);
  if (generation.request.preview == Preview::kLinear) LinearPreviewOf(generation);
}

const float* ScaleReporter::ReadLatents(const Generation& generation) {
  const size_t numbers = generation.num_images * config_.tokenizer.latent_numbers();
  backend_.Download(latents_.data(), generation.engine.f_hat.data(), numbers * sizeof(float));
  backend_.Wait();
  return latents_.data();
}

void ScaleReporter::Capture(Generation& generation) {
  const size_t numbers = config_.tokenizer.latent_numbers();
  const float* const found = ReadLatents(generation);
  std::vector<float>& f_hat = generation.engine.scale.result.f_hat;
  f_hat.resize(generation.num_images * numbers);
  for (size_t image = 0; image < generation.num_images; ++image) {
    ToPlanar(found + image * numbers, config_.side() * config_.side(), config_.tokenizer.code_dim,
             f_hat.data() + image * numbers);
  }
}

void ScaleReporter::LinearPreviewOf(Generation& generation) {
  ScaleResult& result = generation.engine.scale.result;
  std::shared_ptr<const std::vector<float>> matrix;
  {
    std::lock_guard lock(mutex_);
    matrix = matrix_;
  }
  if (!matrix) {
    result.preview.clear();
    return;
  }
  result.preview_side = config_.side();
  const size_t pixels = config_.side() * config_.side();
  const float* const found = ReadLatents(generation);
  for (size_t image = 0; image < generation.num_images; ++image) {
    LinearPreview(matrix->data(), found + image * config_.tokenizer.latent_numbers(), config_.tokenizer.code_dim,
                  pixels, result.preview.data() + image * pixels * 3);
  }
}

}  // namespace nextscale
