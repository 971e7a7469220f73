// A tokenizer: pictures become tokens and tokens become pictures, one picture at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "native/tokenizer/decoder.h"
#include "native/tokenizer/encoder.h"
#include "native/tokenizer/quantizer.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

// Holds its workspace: one thread at a time, which also issues all other ops to the backend. Throws Error(kAborted)
// from a call whose `cancelled` says so between two layers.
class Tokenizer {
 public:
  // The encoder is packed at its first use; until then its tensors must stay valid (`files_alive` keeps them).
  Tokenizer(Backend& backend, const TokenizerConfig& config, TensorTable tensors,
            std::shared_ptr<const void> files_alive);

  const TokenizerConfig& config() const { return config_; }
  Quantizer& quantizer() { return quantizer_; }

  // Image `image` of u8 [.., S, S, 3] or f32 [.., 3, S, S], from f_hat in the device's memory; all else here is the
  // host's. Throws Error(kAborted) when cancelled.
  void Decode(const float* f_hat, size_t image, uint8_t* u8, float* f32, const std::function<bool()>& cancelled);
  void DecodeTokens(const int32_t* tokens, size_t image, uint8_t* u8, float* f32,
                    const std::function<bool()>& cancelled);
  // pixels [3, S, S] in [-1, 1] -> tokens [num_tokens]
  void Encode(const float* pixels, int32_t* tokens, const std::function<bool()>& cancelled);
  // f [E, P, P], f_hats [scales, E, P, P]
  void EncodeTrace(const float* pixels, float* f, float* f_hats, const std::function<bool()>& cancelled);

 private:
  Encoder& encoder();
  void EncodeOnDevice(const float* pixels, const std::function<bool()>& cancelled);  // into latent_ and tokens_

  const TokenizerConfig config_;
  const ScaleSchedule schedule_;
  Backend& backend_;
  Quantizer quantizer_;
  Decoder decoder_;
  std::unique_ptr<Encoder> encoder_;
  TensorTable tensors_;                      // until the encoder is there
  std::shared_ptr<const void> files_alive_;  // likewise
  Buffer image_, latent_, tokens_;           // in the device's memory
};

}  // namespace nextscale
