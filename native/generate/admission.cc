// Scheduler: what a generation needs of the pool, who starts, and who is refused.
#include <algorithm>
#include <utility>

#include "native/cache/kv_plan.h"
#include "native/generate/scheduler.h"

namespace nextscale {

size_t Scheduler::PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const {
  Request request;
  request.labels = {0};
  request.guidance.assign(schedule_.num_scales(), 0.0f);
  request.depths = depths;
  CheckRequest(request, config_);
  const Generation generation(0, std::move(request), {});
  const SchedulerLock lock(mutex_);
  return PeakOf(lock, generation, generation.shared(lock).depths) * sequences * pool_.row_bytes();
}

size_t Scheduler::PeakOf(const SchedulerLock& lock, const Generation& generation,
                         std::span<const size_t> depths) const {
  const SharedSide& shared = generation.shared(lock);
  for (size_t i = 0; i < depths.size(); ++i) plan_blocks_[i] = subnets_.Blocks(depths[i]);
  const KvPlan plan{schedule_.tokens, plan_blocks_, generation.request.keep_dropped_cache};
  if (shared.lease) {
    std::copy(shared.lease->held().begin(), shared.lease->held().end(), plan_held_.begin());
  } else {
    std::fill(plan_held_.begin(), plan_held_.end(), 0);
  }
  const bool exact = generation.request.deadline_ms == 0;
  const size_t rows =
      exact ? PeakRows(plan, plan_held_, shared.next_scale) : PeakRowsAtMost(plan, plan_held_, shared.next_scale);
  return rows * generation.num_sequences();
}

GenerationEnd Scheduler::Refusal(const SchedulerLock& lock, const Generation& generation, size_t available,
                                 const char* reason) const {
  const SharedSide& shared = generation.shared(lock);
  // The bridge (leading scales at full depth) stays, unless the plan is nothing but bridge.
  const size_t full = subnets_.full_depth(), num_scales = schedule_.num_scales();
  size_t bridge = 0;
  while (bridge < num_scales && shared.depths[bridge] == full) ++bridge;
  if (bridge == num_scales) bridge = 0;
  const auto peak_at = [&](size_t depth) {
    std::vector<size_t> depths(num_scales, depth);
    std::fill_n(depths.begin(), bridge, full);
    return PeakOf(lock, generation, depths);
  };
  return Refusal(shared.needed, available,
                 Message("the generation needs ", shared.needed * pool_.row_bytes(), " bytes of the KV pool, ", reason,
                         " ", available * pool_.row_bytes()),
                 peak_at);
}

void Scheduler::Admit(std::vector<GenerationPtr>& started, std::vector<Ended>& ended) {
  const SchedulerLock lock(mutex_);
  const auto end = [&](const GenerationPtr& generation, GenerationEnd how) {
    ended.push_back({generation, std::move(how)});
  };
  const auto cancelled = [] { return GenerationEnd{Failed(ErrorCode::kAborted, "the generation was cancelled")}; };
  for (const GenerationPtr& generation : running_) {
    if (generation->cancelled.IsSet()) end(generation, cancelled());
  }
  bool blocked = false;  // somebody waits: nobody overtakes
  for (const GenerationPtr& generation : waiting_) {
    SharedSide& shared = generation->shared(lock);
    const size_t needed = shared.needed;
    if (generation->cancelled.IsSet()) {
      end(generation, cancelled());
    } else if (needed > pool_.capacity()) {
      end(generation, Refusal(lock, *generation, pool_.capacity(), "the pool has"));
    } else if (!blocked && pool_.Reserve(needed)) {
      shared.reserved = needed;
      shared.stage = Stage::kRunning;
      started.push_back(generation);
    } else if (!generation->request.wait) {
      const char* reason = needed <= pool_.available() ? "others wait in line for the free" : "free are";
      end(generation, Refusal(lock, *generation, pool_.available(), reason));
    } else {
      blocked = true;
    }
  }
  if (started.empty()) return;  // who ended leaves the line with Finish
  std::erase_if(waiting_, [&](const GenerationPtr& waiting) { return waiting->shared(lock).stage == Stage::kRunning; });
  for (const GenerationPtr& generation : started) {
    fair_share_.Join(generation->shared(lock).account);
    running_.push_back(generation);
  }
  const size_t room = 2 * running_.size();
  if (candidates_.capacity() < running_.size()) candidates_.reserve(room), ready_.reserve(room);
  fair_share_.Reserve(running_.size());
}

}  // namespace nextscale
