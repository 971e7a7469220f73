// A tokenizer at work: one thread that encodes and decodes, picture by picture, for everybody who asks.
//
// A model's engine is built on one (native/generate/engine.h) and does its own work on the same thread; a tokenizer
// without a transformer is one alone.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "native/base/job_runner.h"
#include "native/tokenizer/tokenizer.h"

namespace nextscale {

class TokenizerEngine {
 public:
  // Packs the weights. Throws Error. Nothing depends on the tensors once the constructor has returned.
  TokenizerEngine(const TokenizerConfig& config, const TensorTable& tensors, std::unique_ptr<Backend> backend);
  TokenizerEngine(const TokenizerEngine&) = delete;
  TokenizerEngine& operator=(const TokenizerEngine&) = delete;

  const TokenizerConfig& config() const { return tokenizer_.config(); }

  // Begins to work on a thread of its own. The owner of a model starts the runner instead, with more to do.
  void Start() { runner_.Start(); }

  // Any thread; they return at once, and `done` hears of the end on the engine's thread. The result is a flag that,
  // when set, ends the work within one layer: it then fails with kAborted. Throw Error(kInvalidArgument) for wrong
  // sizes and for tokens outside the codebook, Error(kDisposed) once closed.
  using Flag = std::shared_ptr<CancelFlag>;
  Flag Decode(std::vector<int32_t> tokens, Pictures out, Done done);  // tokens [count, num_tokens]
  // f_hats [count, E, P, P]: what the decoder reads for these tokens.
  Flag FeatureMap(std::vector<int32_t> tokens, float* f_hats, Done done);
  Flag Encode(std::vector<float> pixels, int32_t* tokens, Done done);  // pixels [count, 3, S, S] in [-1, 1]
  // One picture, for tests: f [E, P, P], f_hats [scales, E, P, P].
  Flag EncodeTrace(std::vector<float> pixels, float* f, float* f_hats, Done done);
  JobStats stats() const { return runner_.stats(); }
  // Cancels everything and waits for the thread. Every Done has been called when it returns.
  void Close() { runner_.Close(); }

  // For the owner of a model: what works on the same thread.
  Backend& backend() { return *backend_; }
  Tokenizer& tokenizer() { return tokenizer_; }
  JobRunner& runner() { return runner_; }

 private:
  size_t CountTokens(const std::vector<int32_t>& tokens) const;  // images; throws for what is no whole number of them

  const std::unique_ptr<Backend> backend_;  // outlives all that holds its memory
  Tokenizer tokenizer_;
  JobRunner runner_;  // ends first
};

}  // namespace nextscale
