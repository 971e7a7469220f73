// The engine of one model: one thread that advances every running generation, scale by scale, in shared batches.
//
// Everything public here may be called from any thread and returns at once; results arrive through callbacks on the
// engine's thread (they must not call back into the engine and must not throw). The engine thread is the one that
// issues ops to the model's own backend.
//
// A step: admit what fits into the pool; every running generation stands before or in some scale; FairShare picks who
// takes part, and with how many images; their rows form one ragged batch (linear layers do not care which scale a row
// belongs to, attention is per sequence); blocks 0..D-1 run, each for the generations whose depth at this scale
// includes it; then head, guidance, draw and latent of every image, and a ScaleResult for each scale that is complete.
// Decoding and encoding are jobs of their own that run between steps, one image at a time.
//
// A generation's results are allocated when it is admitted; a step allocates nothing (`capture`, for tests, does).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/model/config.h"
#include "native/model/subnet.h"
#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

enum class Preview { kNone, kLinear, kDecode };
enum class DepthReason { kPlan, kSet, kDeadline, kLate };

struct EngineOptions {
  size_t kv_bytes = 0;
  DType kv_dtype = DType::kF32;
  Strategy strategy = Strategy::kEven;
};

struct Request {
  std::vector<int32_t> labels;  // one image each
  uint64_t seed = 0;
  uint64_t first_image = 0;
  std::vector<float> guidance;  // t per scale; all zero: the unconditional branch is not run
  size_t top_k = 0;
  float top_p = 0.0f;
  std::vector<int32_t> depths;  // per scale
  double deadline_ms = 0;       // 0 = none
  std::vector<int32_t> deadline_depths;
  bool keep_dropped_cache = false;
  bool wait = true;
  Preview preview = Preview::kNone;
  std::vector<int32_t> forced_tokens;  // empty, or [labels, num_tokens]
  bool losses = false;                 // with forced_tokens: the cross entropy of every token, without guidance
  bool capture = false;
};

struct ScaleResult {
  size_t index = 0, side = 0, depth = 0;
  DepthReason reason = DepthReason::kPlan;
  double elapsed_ms = 0;         // since the generation began to run
  double scale_ms = 0;           // of the steps in which this scale had rows; what is left of elapsed_ms was waiting
  std::vector<int32_t> tokens;   // [labels, side²]
  std::vector<uint8_t> preview;  // [labels, preview_side, preview_side, 3] or empty
  size_t preview_side = 0;
  std::vector<float> losses;  // [labels, side²], nats, or empty
  // capture only:
  std::vector<float> logits, f_hat, next_input, hidden;
};

struct EndResult {
  bool ok = true;
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  size_t needed_bytes = 0, available_bytes = 0, deepest_fit = 0;  // kPoolExhausted
};

struct Listener {
  std::function<void(ScaleResult)> on_scale;
  std::function<void(EndResult)> on_end;  // exactly once, last
};

// Result of a job: ok or an error, on the engine thread, exactly once.
using Done = std::function<void(EndResult)>;

struct PoolStats {
  struct PerGeneration {
    uint64_t id;
    size_t used_bytes, reserved_bytes;
  };
  size_t capacity_bytes = 0, used_bytes = 0, peak_bytes = 0, reserved_bytes = 0;
  std::vector<PerGeneration> generations;
};

struct ScaleTime {
  size_t scale_index, depth, rows;
  double ms;
};

struct EngineStats {
  PoolStats pool;
  size_t running = 0, waiting = 0, steps = 0, tokens = 0, max_batch_rows = 0;
  double busy_ms = 0;
  std::vector<ScaleTime> scale_times;
};

class Engine {
 public:
  // Packs the weights (progress 0..1 on the calling thread), then starts the engine thread. Throws Error.
  // Without any tensor "var.*" it is a tokenizer alone: config.transformer must be valid but is not used, Encode and
  // Decode work, Start throws Error(kInvalidArgument). The tensor data must stay valid until the constructor returns,
  // and for the tokenizer's encoder until destruction (it is packed at its first use): the engine keeps `files_alive`
  // for that.
  Engine(const ModelConfig& config, TensorTable tensors, const EngineOptions& options, std::unique_ptr<Backend> backend,
         std::shared_ptr<const void> files_alive, const std::function<void(double)>& progress);
  ~Engine();  // = Close()
  Engine(const Engine&) = delete;

  // A request that cannot run (a label out of range, a plan of impossible depths, ...) ends through its listener as
  // well. Throws Error(kDisposed) after Close, as Decode, Encode and EncodeTrace do.
  uint64_t Start(Request request, Listener listener);
  // Returns once the new depth is set; throws Error(kPoolExhausted) when a raise does not fit, kInvalidArgument when
  // out of range.
  void SetDepth(uint64_t generation, size_t depth);
  void Cancel(uint64_t generation);
  // Decodes the f_hat of a generation as it stands. u8 [labels, S, S, 3] or f32 [labels, 3, S, S]; exactly one is
  // non-null. f_hat of a finished generation is kept until Release.
  void DecodeGeneration(uint64_t generation, uint8_t* u8, float* f32, Done done);
  void Release(uint64_t generation);  // the caller has dropped its handle: cancels if running, forgets the result

  void Decode(std::vector<int32_t> tokens, size_t count, uint8_t* u8, float* f32, Done done);
  void Encode(std::vector<float> pixels, size_t count, int32_t* tokens, Done done);
  void EncodeTrace(std::vector<float> pixels, float* f, float* f_hats, Done done);
  void SetPreviewMatrix(std::vector<float> matrix);

  EngineStats Stats() const;
  size_t PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const;
  // Cancels everything, waits for the engine thread to stop. Every listener and Done has been called when it returns.
  void Close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nextscale
