// Work beside the steps: decoding and encoding, one image at a time, so that no generation waits longer than one image.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "native/generate/generation.h"
#include "native/generate/outcome.h"
#include "native/model/vae.h"

namespace nextscale {

struct Job {
  size_t num_images = 0;
  std::function<void(size_t image)> run;  // engine thread; may throw, which ends the job
  Done done;                              // engine thread, exactly once
  size_t next_image = 0;
};

// Jobs take turns, image by image.
class JobQueue {
 public:
  // False, and nothing happens, once closed.
  bool Add(Job job);
  // Runs one image of the first job. False when there was none. Engine thread.
  bool RunOne();
  size_t size() const;  // jobs that are not done
  // Ends every job with this result and takes no more. Engine thread.
  void Close(const EndResult& result);

 private:
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::deque<Job> jobs_;
};

// What jobs need of the model, and the images they make. Engine thread only.
class Tokenizer {
 public:
  // The encoder is packed at its first use; until then its tensors must stay valid (`files_alive` keeps them).
  Tokenizer(Backend& backend, const ModelConfig& config, TensorTable tensors, std::shared_ptr<const void> files_alive);

  Quantizer& quantizer() { return quantizer_; }

  // Image `image` of u8 [.., S, S, 3] or f32 [.., 3, S, S], from f_hat in the device's memory; all else here is the
  // host's. Throws Error(kAborted) when cancelled.
  void Decode(const float* f_hat, size_t image, uint8_t* u8, float* f32, const std::function<bool()>& cancelled);
  void DecodeTokens(const int32_t* tokens, size_t image, uint8_t* u8, float* f32,
                    const std::function<bool()>& cancelled);
  void Encode(const float* pixels, int32_t* tokens);
  void EncodeTrace(const float* pixels, float* f, float* f_hats);  // f [E, P, P], f_hats [scales, E, P, P]

 private:
  Encoder& encoder();
  void EncodeOnDevice(const float* pixels);  // into latent_ and tokens_
  size_t latent_size() const { return config_.vae.code_dim * config_.side() * config_.side(); }

  const ModelConfig config_;
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
