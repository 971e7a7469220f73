#include "native/tokenizer/tokenizer.h"

#include <vector>

#include "native/tokenizer/preview.h"

namespace nextscale {

Tokenizer::Tokenizer(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors)
    : config_(config),
      schedule_(config.sides),
      backend_(backend),
      quantizer_(backend, config, tensors),
      decoder_(backend, config, tensors),
      encoder_(backend, config, tensors),
      image_(backend.Allocate(config.image_numbers() * sizeof(float), "a picture")),
      latent_(backend.Allocate(config.latent_numbers() * sizeof(float), "a latent")),
      tokens_(backend.Allocate(schedule_.num_tokens * sizeof(int32_t), "tokens")) {}

void Tokenizer::Decode(const float* f_hat, size_t image, Pictures out, const CancelFlag& cancelled) {
  const size_t numbers = config_.image_numbers();
  // Always from one place: a device that keeps what it ran knows the ops of the next picture by their arguments.
  if (f_hat != latent_.as<float>()) backend_.Copy(latent_.data(), f_hat, latent_.bytes());
  f_hat = latent_.as<float>();
  if (out.f32 != nullptr) {
    decoder_.Decode(f_hat, image_.as<float>(), nullptr, &cancelled);
    backend_.Download(out.f32 + image * numbers, image_.data(), numbers * sizeof(float));
  } else {
    decoder_.Decode(f_hat, nullptr, image_.as<uint8_t>(), &cancelled);
    backend_.Download(out.u8 + image * numbers, image_.data(), numbers);
  }
  backend_.Wait();
}

void Tokenizer::SumCodes(const int32_t* tokens) {
  backend_.Upload(tokens_.data(), tokens, tokens_.bytes());
  backend_.Clear(latent_.data(), latent_.bytes());
  for (size_t scale_index = 0; scale_index < schedule_.num_scales(); ++scale_index) {
    quantizer_.AddScale(scale_index, tokens_.as<int32_t>() + schedule_.offsets[scale_index], latent_.as<float>());
  }
}

void Tokenizer::DecodeTokens(const int32_t* tokens, size_t image, Pictures out, const CancelFlag& cancelled) {
  SumCodes(tokens);
  Decode(latent_.as<float>(), image, out, cancelled);
}

void Tokenizer::FeatureMap(const int32_t* tokens, float* f_hat, const CancelFlag& cancelled) {
  cancelled.Check();
  SumCodes(tokens);
  std::vector<float> latent(config_.latent_numbers());  // [P², E], as the device has it
  backend_.Download(latent.data(), latent_.data(), latent_.bytes());
  backend_.Wait();
  ToPlanar(latent.data(), config_.side() * config_.side(), config_.code_dim, f_hat);
}

void Tokenizer::EncodeOnDevice(const float* pixels, const CancelFlag& cancelled) {
  backend_.Upload(image_.data(), pixels, image_.bytes());
  encoder_.Encode(image_.as<float>(), latent_.as<float>(), &cancelled);
  quantizer_.Tokenize(latent_.as<float>(), tokens_.as<int32_t>());
}

void Tokenizer::Encode(const float* pixels, int32_t* tokens, const CancelFlag& cancelled) {
  EncodeOnDevice(pixels, cancelled);
  backend_.Download(tokens, tokens_.data(), tokens_.bytes());
  backend_.Wait();
}

void Tokenizer::EncodeTrace(const float* pixels, float* f, float* f_hats, const CancelFlag& cancelled) {
  EncodeOnDevice(pixels, cancelled);
  const size_t num_scales = schedule_.num_scales(), side = config_.side(), dim = config_.code_dim;
  std::vector<float> latents((1 + num_scales) *
                             config_.latent_numbers());  // f, then f_hat of every scale, as the device has them
  backend_.Download(latents.data(), latent_.data(), latent_.bytes());
  backend_.Clear(latent_.data(), latent_.bytes());
  for (size_t scale_index = 0; scale_index < num_scales; ++scale_index) {
    quantizer_.AddScale(scale_index, tokens_.as<int32_t>() + schedule_.offsets[scale_index], latent_.as<float>());
    backend_.Download(latents.data() + (1 + scale_index) * config_.latent_numbers(), latent_.data(), latent_.bytes());
  }
  backend_.Wait();
  ToPlanar(latents.data(), side * side, dim, f);
  for (size_t scale_index = 0; scale_index < num_scales; ++scale_index) {
    ToPlanar(latents.data() + (1 + scale_index) * config_.latent_numbers(), side * side, dim,
             f_hats + scale_index * config_.latent_numbers());
  }
}

}  // namespace nextscale
