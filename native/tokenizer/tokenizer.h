// A tokenizer: pictures become tokens and tokens become pictures, one picture at a time.
#pragma once

#include <cstdint>

#include "native/base/cancel.h"
#include "native/tokenizer/decoder.h"
#include "native/tokenizer/encoder.h"
#include "native/tokenizer/quantizer.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

// Where pictures go: u8 [count, S, S, 3] or f32 [count, 3, S, S] in [0, 1]; exactly one is not null.
struct Pictures {
  uint8_t* u8 = nullptr;
  float* f32 = nullptr;
};

// Holds its workspace: one thread at a time, which also issues all other ops to the backend. Throws Error(kAborted)
// from a call whose `cancelled` says so between two layers.
class Tokenizer {
 public:
  // Nothing depends on the tensors once the constructor has returned.
  Tokenizer(Backend& backend, const TokenizerConfig& config, const TensorTable& tensors);

  const TokenizerConfig& config() const { return config_; }
  Quantizer& quantizer() { return quantizer_; }

  // Picture `image` of `out`, from f_hat in the device's memory; all else here is the host's.
  void Decode(const float* f_hat, size_t image, Pictures out, const CancelFlag& cancelled);
  void DecodeTokens(const int32_t* tokens, size_t image, Pictures out, const CancelFlag& cancelled);
  // The sum of all code vectors, as the decoder reads it: f_hat [E, P, P]
  void FeatureMap(const int32_t* tokens, float* f_hat, const CancelFlag& cancelled);
  // pixels [3, S, S] in [-1, 1] -> tokens [num_tokens]
  void Encode(const float* pixels, int32_t* tokens, const CancelFlag& cancelled);
  // f [E, P, P], f_hats [scales, E, P, P]
  void EncodeTrace(const float* pixels, float* f, float* f_hats, const CancelFlag& cancelled);

 private:
  void SumCodes(const int32_t* tokens);  // all scales of the host's tokens, into latent_
  void EncodeOnDevice(const float* pixels, const CancelFlag& cancelled);  // into latent_ and tokens_

  const TokenizerConfig config_;
  const ScaleSchedule schedule_;
  Backend& backend_;
  Quantizer quantizer_;
  Decoder decoder_;
  Encoder encoder_;
  Buffer image_, latent_, tokens_;  // in the device's memory
};

}  // namespace nextscale
