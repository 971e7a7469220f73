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

Tokenizer::Tokenizer(Backend& backend, const ModelConfig& config, TensorTable tensors,
                     std::shared_ptr<const void> files_alive)
    : config_(config),
      schedule_(config.sides),
      backend_(backend),
      quantizer_(backend, config, tensors),
      decoder_(backend, config, tensors),
      tensors_(std::move(tensors)),
      files_alive_(std::move(files_alive)),
      image_(backend.Allocate(3 * config.image_side() * config.image_side() * sizeof(float), "a picture")),
      latent_(backend.Allocate(latent_size() * sizeof(float), "a latent")),
      tokens_(backend.Allocate(schedule_.num_tokens * sizeof(int32_t), "tokens")) {}

void Tokenizer::Decode(const float* f_hat, size_t image, uint8_t* u8, float* f32,
                       const std::function<bool()>& cancelled) {
  const size_t numbers = 3 * config_.image_side() * config_.image_side();
  if (f32 != nullptr) {
    decoder_.Decode(f_hat, image_.as<float>(), nullptr, cancelled);
    backend_.Download(f32 + image * numbers, image_.data(), numbers * sizeof(float));
  } else {
    decoder_.Decode(f_hat, nullptr, image_.as<uint8_t>(), cancelled);
    backend_.Download(u8 + image * numbers, image_.data(), numbers);
  }
  backend_.Wait();
}

void Tokenizer::DecodeTokens(const int32_t* tokens, size_t image, uint8_t* u8, float* f32,
                             const std::function<bool()>& cancelled) {
  backend_.Upload(tokens_.data(), tokens, tokens_.bytes());
  backend_.Clear(latent_.data(), latent_.bytes());
  for (size_t scale_index = 0; scale_index < schedule_.num_scales(); ++scale_index) {
    quantizer_.AddScale(scale_index, tokens_.as<int32_t>() + schedule_.offsets[scale_index], latent_.as<float>());
  }
  Decode(latent_.as<float>(), image, u8, f32, cancelled);
}

void Tokenizer::EncodeOnDevice(const float* pixels) {
  backend_.Upload(image_.data(), pixels, image_.bytes());
  encoder().Encode(image_.as<float>(), latent_.as<float>());
  quantizer_.Tokenize(latent_.as<float>(), tokens_.as<int32_t>());
}

void Tokenizer::Encode(const float* pixels, int32_t* tokens) {
  EncodeOnDevice(pixels);
  backend_.Download(tokens, tokens_.data(), tokens_.bytes());
  backend_.Wait();
}

void Tokenizer::EncodeTrace(const float* pixels, float* f, float* f_hats) {
  EncodeOnDevice(pixels);
  const size_t num_scales = schedule_.num_scales(), side = config_.side(), dim = config_.vae.code_dim;
  std::vector<float> latents((1 + num_scales) * latent_size());  // f, then f_hat of every scale, as the device has them
  backend_.Download(latents.data(), latent_.data(), latent_.bytes());
  backend_.Clear(latent_.data(), latent_.bytes());
  for (size_t scale_index = 0; scale_index < num_scales; ++scale_index) {
    quantizer_.AddScale(scale_index, tokens_.as<int32_t>() + schedule_.offsets[scale_index], latent_.as<float>());
    backend_.Download(latents.data() + (1 + scale_index) * latent_size(), latent_.data(), latent_.bytes());
  }
  backend_.Wait();
  ToPlanar(latents.data(), side * side, dim, f);
  for (size_t scale_index = 0; scale_index < num_scales; ++scale_index) {
    ToPlanar(latents.data() + (1 + scale_index) * latent_size(), side * side, dim, f_hats + scale_index * latent_size());
  }
}

Encoder& Tokenizer::encoder() {
  if (!encoder_) {
    encoder_ = std::make_unique<Encoder>(backend_, config_, tensors_);
    tensors_ = TensorTable();
    files_alive_.reset();
  }
  return *encoder_;
}

}  // namespace nextscale
