#include "native/generate/jobs.h"

#include <algorithm>
#include <utility>

#include "native/generate/preview.h"

namespace nextscale {

bool JobQueue::Add(Job job) {
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  jobs_.push_back(std::move(job));
  return true;
}

bool JobQueue::RunOne() {
  Job job;
  {
    std::lock_guard lock(mutex_);
    if (jobs_.empty()) return false;
    job = std::move(jobs_.front());
    jobs_.pop_front();
  }
  EndResult result;
  try {
    if (job.next_image < job.num_images) job.run(job.next_image++);
    if (job.next_image < job.num_images) {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
      return true;
    }
  } catch (...) {
    result = FromCurrentException();
  }
  Tell(job.done, std::move(result));
  return true;
}

size_t JobQueue::size() const {
  std::lock_guard lock(mutex_);
  return jobs_.size();
}

void JobQueue::Close(const EndResult& result) {
  std::deque<Job> left;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(jobs_);
  }
  for (const Job& job : left) Tell(job.done, EndResult(result));
}

Tokenizer::Tokenizer(const ModelConfig& config, TensorTable tensors, Context& context,
                     std::shared_ptr<const void> files_alive)
    : config_(config),
      schedule_(config.sides),
      context_(context),
      quantizer_(config, tensors, context),
      decoder_(config, tensors, context),
      tensors_(std::move(tensors)),
      files_alive_(std::move(files_alive)) {}

void Tokenizer::Decode(const float* f_hat, size_t image, uint8_t* u8, float* f32,
                       const std::function<bool()>& cancelled) {
  const size_t pixels = config_.image_side() * config_.image_side();
  if (f32 != nullptr) return decoder_.Decode(context_, f_hat, f32 + image * 3 * pixels, cancelled);
  image_.resize(3 * pixels);
  decoder_.Decode(context_, f_hat, image_.data(), cancelled);
  ToBytes(image_.data(), pixels, u8 + image * 3 * pixels);
}

void Tokenizer::DecodeTokens(const int32_t* tokens, size_t image, uint8_t* u8, float* f32,
                             const std::function<bool()>& cancelled) {
  latent_.assign(latent_size(), 0.0f);
  for (size_t scale_index = 0; scale_index < schedule_.num_scales(); ++scale_index) {
    quantizer_.AddScale(context_, scale_index, tokens + schedule_.offsets[scale_index], latent_.data());
  }
  Decode(latent_.data(), image, u8, f32, cancelled);
}

void Tokenizer::Encode(const float* pixels, int32_t* tokens) {
  latent_.resize(latent_size());
  encoder().Encode(context_, pixels, latent_.data());
  quantizer_.Tokenize(context_, latent_.data(), tokens);
}

void Tokenizer::EncodeTrace(const float* pixels, float* f, float* f_hats) {
  std::vector<int32_t> tokens(schedule_.num_tokens);
  Encode(pixels, tokens.data());
  std::copy(latent_.begin(), latent_.end(), f);
  for (size_t scale_index = 0; scale_index < schedule_.num_scales(); ++scale_index) {
    float* const f_hat = f_hats + scale_index * latent_size();
    if (scale_index == 0) {
      std::fill_n(f_hat, latent_size(), 0.0f);
    } else {
      std::copy_n(f_hat - latent_size(), latent_size(), f_hat);
    }
    quantizer_.AddScale(context_, scale_index, tokens.data() + schedule_.offsets[scale_index], f_hat);
  }
}

Encoder& Tokenizer::encoder() {
  if (!encoder_) {
    encoder_ = std::make_unique<Encoder>(config_, tensors_, context_);
    tensors_ = TensorTable();
    files_alive_.reset();
  }
  return *encoder_;
}

}  // namespace nextscale
