// The state of one generation, from its request to its release.
//
// It has three kinds of state, and the types say who may touch them: what is constant, or atomic, is everybody's;
// SharedSide is reached with the scheduler's lock in hand only; EngineSide belongs to the engine's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "native/base/cancel.h"
#include "native/cache/kv_lease.h"
#include "native/generate/fair_share.h"
#include "native/generate/request.h"
#include "native/generate/results.h"
#include "native/model/modulation.h"
#include "native/tensor/buffer.h"

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

// The scheduler's lock, held. Only who has one gets at a SharedSide.
class SchedulerLock {
 public:
  explicit SchedulerLock(std::mutex& mutex) : held_(mutex) {}

 private:
  const std::lock_guard<std::mutex> held_;
};

// What several threads read or change.
struct SharedSide {
  Stage stage = Stage::kWaiting;
  bool released = false;
  std::vector<size_t> depths;        // of every scale: the plan as it stands; ceilings when there is a deadline
  std::vector<DepthReason> reasons;  // kPlan or kSet
  size_t next_scale = 0;             // first scale that has not begun
  size_t needed = 0;                 // slots, by its plan; while it waits
  size_t reserved = 0;               // slots
  FairShare::Account account;
  std::unique_ptr<KvLease> lease;
};

// What the engine's thread alone works with.
struct EngineSide {
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
  bool in_scale = false;
  const KvLease* lease = nullptr;            // the shared side's
  std::vector<ScaleResult> results;          // of scales that have not begun: storage of the right sizes
  Clock::time_point start, last_end;         // of running; of the scale before
  double load = 1;                           // wall time per cost
  std::unique_ptr<Conditions> conditions;    // the distinct ones
  std::unique_ptr<Modulations> modulations;  // of each
  std::vector<size_t> condition_of;          // of every sequence
  // In the device's memory:
  Buffer f_hat;  // f32 [B, P², E]
  Buffer
      inputs[2];  // activations [B, side², E]; even and odd scales, since images of one scale may run one after another
  Buffer tokens;  // int32 [B, side²] of the scale that runs
  Buffer losses;  // f32 [B, side²], when asked for
  Buffer logits;  // f32 [B, side², V], when captured
};

class Generation {
 public:
  Generation(uint64_t generation_id, Request its_request, Listener its_listener);

  size_t num_sequences() const { return num_images * num_branches; }
  // The given tokens of an image from `first_token` on; null when the request gives none at all.
  const int32_t* GivenTokens(size_t image, size_t first_token, const ModelConfig& config) const {
    return request.given_tokens.empty() ? nullptr
                                        : request.given_tokens.data() + image * config.num_tokens() + first_token;
  }

  // The engine's thread. Allocates all that its scales need and computes its modulations; the lease is made by the
  // scheduler.
  void Prepare(Backend& backend, const TransformerWeights& weights, const ModelConfig& config);
  // Likewise; frees all but f_hat.
  void Shrink();

  const uint64_t id;
  const Request request;
  const Listener listener;
  const size_t num_images;
  const size_t num_branches;  // 1 when guidance is 0 at every scale
  const Clock::time_point arrival = Clock::now();
  CancelFlag cancelled;

  SharedSide& shared(const SchedulerLock&) { return shared_; }
  const SharedSide& shared(const SchedulerLock&) const { return shared_; }
  EngineSide engine;

 private:
  SharedSide shared_;
};

using GenerationPtr = std::shared_ptr<Generation>;

}  // namespace nextscale
