// The engine of one model: one thread that advances every running generation, scale by scale, in shared batches.
//
// Everything public here may be called from any thread and returns at once; results arrive through callbacks on the
// engine's thread (they must not call back into the engine and must not throw). That thread is the one that issues ops
// to the model's own backend; the tokenizer's jobs run on it too, between the steps, one picture at a time.
//
// A step: admit what fits into the pool; every running generation stands before or in some scale; FairShare picks who
// takes part, and with how many images; their rows form one ragged batch (linear layers do not care which scale a row
// belongs to, attention is per sequence); blocks 0..D-1 run, each for the generations whose depth at this scale
// includes it; then head, guidance, draw and latent of every image, and a ScaleResult for each scale that is complete.
//
// A generation's results are allocated when it is admitted; a step allocates nothing (`capture`, for tests, does).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "native/base/cancel.h"
#include "native/generate/request.h"
#include "native/generate/results.h"
#include "native/generate/stats.h"
#include "native/model/config.h"
#include "native/model/subnet.h"
#include "native/tensor/dtype.h"
#include "native/tokenizer/tokenizer_engine.h"

namespace nextscale {

struct EngineOptions {
  size_t kv_bytes = 0;
  DType kv_dtype = DType::kF32;
  Strategy strategy = Strategy::kEven;
};

class Engine {
 public:
  // Packs the weights (progress 0..1 on the calling thread), then starts the engine's thread. Throws Error.
  // Nothing depends on the tensors once the constructor has returned.
  Engine(const ModelConfig& config, const TensorTable& tensors, const EngineOptions& options,
         std::unique_ptr<Backend> backend, const std::function<void(double)>& progress);
  ~Engine();  // = Close()
  Engine(const Engine&) = delete;

  const ModelConfig& config() const;
  // Encodes and decodes on the engine's thread.
  TokenizerEngine& tokenizer();

  // Throws Error(kInvalidArgument) for a request that cannot run (a label out of range, a plan of impossible depths,
  // ...), Error(kDisposed) after Close, as DecodeGeneration does. What the pool refuses ends through the listener.
  uint64_t Start(Request request, Listener listener);
  // Returns once the new depth is set; throws PoolError when a raise does not fit, Error(kInvalidArgument) when out of
  // range.
  void SetDepth(uint64_t generation, size_t depth);
  void Cancel(uint64_t generation);
  // Decodes the f_hat of a generation as it stands; that of a finished one is kept until Release. Returns the flag that
  // cancels the work (TokenizerEngine).
  std::shared_ptr<CancelFlag> DecodeGeneration(uint64_t generation, Pictures out, Done done);
  void Release(uint64_t generation);  // the caller has dropped its handle: cancels if running, forgets the result

  void SetPreviewMatrix(std::vector<float> matrix);  // [3, E + 1]
  EngineStats Stats() const;
  size_t PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const;
  // Cancels everything, waits for the engine's thread to stop. Every listener and Done has been called when it returns.
  void Close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nextscale
