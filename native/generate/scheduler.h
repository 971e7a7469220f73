// Who runs, who waits, and what the pool has promised to whom. The object that several threads share; it wakes nobody:
// the engine does.
//
// Admission: the peak of a generation's plan is known when it arrives; it starts when that many slots can be reserved,
// in order of arrival. A running generation never needs more than it reserved, so it cannot fail for want of cache, and
// nothing can deadlock: every wait is for running generations to end. Who runs takes turns by FairShare.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/cache/kv_pool.h"
#include "native/generate/depth_policy.h"
#include "native/generate/fair_share.h"
#include "native/generate/generation.h"
#include "native/generate/stats.h"
#include "native/model/subnet.h"

namespace nextscale {

// Some images of a generation in one batch.
struct Unit {
  GenerationPtr generation;
  size_t first_image = 0, num_images = 0;
};

class Scheduler {
 public:
  // kv_rows: the memory of the pool. max_rows, part_rows: of a batch, of one generation's part of it.
  Scheduler(const ModelConfig& config, Buffer kv_rows, size_t kv_row_bytes, Strategy strategy, size_t max_rows,
            size_t part_rows);

  // Any thread.
  // Throws Error(kInvalidArgument) for a request that cannot run, Error(kDisposed) once closed.
  uint64_t Add(Request request, Listener listener);
  void SetDepth(uint64_t id, size_t depth);
  void Cancel(uint64_t id);
  void Release(uint64_t id);
  GenerationPtr Find(uint64_t id) const;  // null when unknown
  EngineStats Stats() const;
  size_t PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const;
  void BeginClose();  // cancels everything
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  // Engine thread.
  struct Ended {
    GenerationPtr generation;
    GenerationEnd end;
  };
  // Who starts now (its slots are reserved), and who ends without having run, or because it was cancelled.
  void Admit(std::vector<GenerationPtr>& started, std::vector<Ended>& ended);
  void MakeLease(Generation& generation);
  size_t num_running() const;
  // The units of the next batch; begins scales where one is due. Allocates nothing when `units` has room for every
  // running generation.
  void Collect(std::vector<Unit>& units);
  void EndScale(Generation& generation);  // scratch, times, counters; after the last scale all its cache
  void Park(Generation& generation);
  void Unpark(Generation& generation);
  bool Finish(const GenerationPtr& generation);  // gives everything back; false when it was finished before
  std::vector<GenerationPtr> All() const;        // that have not finished
  void CountBatch(size_t rows, double ms);
  void CountBusy(double ms);
  bool NeedsCalibration(const Generation& generation) const;
  void Calibrate(const BlockCost& cost);

 private:
  // With these depths from its next scale on. Slots.
  size_t PeakOf(const SchedulerLock& lock, const Generation& generation, std::span<const size_t> depths) const;
  // Why so many slots are not to be had, and the greatest depth for which `peak_at` gives no more than there are.
  template <typename PeakAt>
  GenerationEnd Refusal(size_t needed, size_t available, std::string message, const PeakAt& peak_at) const;
  GenerationEnd Refusal(const SchedulerLock& lock, const Generation& generation, size_t available,
                        const char* reason) const;
  void BeginScale(const SchedulerLock& lock, Generation& generation);
  void GiveBack(const SchedulerLock& lock, Generation& generation);  // all that it holds of the pool

  const ModelConfig config_;
  const ScaleSchedule schedule_;
  const SubnetTable subnets_;
  const size_t max_rows_;
  std::atomic<bool> closed_{false};

  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  KvPool pool_;
  DepthPolicy policy_;
  std::unordered_map<uint64_t, GenerationPtr> generations_;  // until released
  std::vector<GenerationPtr> waiting_;                       // in order of arrival
  std::vector<GenerationPtr> running_;                       // in order of admission
  FairShare fair_share_;
  EngineStats stats_;
  // Scratch, so that steps and depth switches allocate nothing.
  std::vector<FairShare::Candidate> candidates_;
  std::vector<Generation*> ready_;  // of each candidate
  std::vector<size_t> new_depths_;
  mutable std::vector<std::span<const uint32_t>> plan_blocks_;
  mutable std::vector<size_t> plan_held_;
};

template <typename PeakAt>
GenerationEnd Scheduler::Refusal(size_t needed, size_t available, std::string message, const PeakAt& peak_at) const {
  GenerationEnd refusal{Failed(ErrorCode::kPoolExhausted, std::move(message))};
  refusal.needed_bytes = needed * pool_.row_bytes();
  refusal.available_bytes = available * pool_.row_bytes();
  for (size_t depth = subnets_.full_depth(); depth >= subnets_.shallowest() && refusal.deepest_fit == 0; --depth) {
    if (peak_at(depth) <= available) refusal.deepest_fit = depth;
  }
  if (refusal.deepest_fit != 0) refusal.message += Message("; depth ", refusal.deepest_fit, " would fit");
  return refusal;
}

}  // namespace nextscale
