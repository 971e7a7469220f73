// The state of one generation, from its request to its release.
//
// Three kinds of fields: constant ones; those that other threads may read or change (under the scheduler's lock); and
// those that only the engine thread touches.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/cache/kv_lease.h"
#include "native/generate/engine.h"
#include "native/generate/fair_share.h"
#include "native/model/modulation.h"
#include "native/tensor/buffer.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

using Clock = std::chrono::steady_clock;
inline double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

enum class Stage {
  kWaiting,   // for room in the pool
  kRunning,   // takes part in steps, in its turn
  kParked,    // between two scales: a preview is being decoded
  kFinished,  // on_end was called or is about to be
};

// Throws Error(kInvalidArgument): which field, what was found and what was expected.
void CheckRequest(const Request& request, const ModelConfig& config);

struct Generation {
  Generation(uint64_t generation_id, Request its_request, Listener its_listener);

  size_t num_sequences() const { return num_images * num_branches; }
  int32_t LabelOf(size_t sequence, const ModelConfig& config) const {
    return sequence < num_images ? request.labels[sequence] : static_cast<int32_t>(config.transformer.num_classes);
  }

  // Allocates all that its scales need and computes its modulations; the lease is made by the scheduler.
  void Prepare(Backend& backend, const TransformerWeights& weights, const ModelConfig& config);
  // Frees all but f_hat.
  void Shrink();

  // Constant.
  const uint64_t id;
  const Request request;
  const Listener listener;
  const size_t num_images;
  const size_t num_branches;  // 1 when guidance is 0 at every scale
  const Clock::time_point arrival = Clock::now();

  std::atomic<bool> cancelled{false};

  // Under the scheduler's lock.
  Stage stage = Stage::kWaiting;
  bool released = false;
  EndResult invalid;                 // not ok: the request cannot run
  std::vector<size_t> depths;        // of every scale: the plan as it stands; ceilings when there is a deadline
  std::vector<DepthReason> reasons;  // kPlan or kSet
  size_t next_scale = 0;             // first scale that has not begun
  size_t needed = 0;                 // slots, by its plan; while it waits
  size_t reserved = 0;               // slots
  FairShare::Account account;
  std::unique_ptr<KvLease> lease;

  // Engine thread only.
  struct Scale {  // the one that runs
    size_t index = 0, depth = 0;
    std::span<const uint32_t> blocks;  // of that depth
    DepthReason reason = DepthReason::kPlan;
    size_t images_begun = 0, images_done = 0;  // a scale may run in parts, some images in each step
    double step_ms = 0;                        // the steps it was in
    double cost_ms = 0;                        // its share of them
    ScaleResult result;                        // filled image by image
  };
  Scale scale;
  std::vector<ScaleResult> results;  // of scales that have not begun: storage of the right sizes
  bool in_scale = false;
  Clock::time_point start, last_end;  // of running; of the scale before
  double load = 1;                    // wall time per cost
  std::unique_ptr<Modulations> modulations;
  std::vector<size_t> label_index;  // of every sequence, in modulations
  // In the device's memory:
  Buffer f_hat;  // f32 [B, P², E]
  Buffer
      inputs[2];  // activations [B, side², E]; even and odd scales, since images of one scale may run one after another
  Buffer tokens;  // int32 [B, side²] of the scale that runs
  Buffer losses;  // f32 [B, side²], when asked for
  Buffer logits;  // f32 [B, side², V], when captured
};

}  // namespace nextscale
