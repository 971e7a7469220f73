// Scheduler: what a generation needs of the pool, who starts, and who is refused.
#include <algorithm>

#include "native/cache/kv_plan.h"
#include "native/generate/outcome.h"
#include "native/generate/scheduler.h"

namespace nextscale {

size_t Scheduler::PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const {
  Request request;
  request.labels = {0};
  request.guidance.assign(schedule_.num_scales(), 0.0f);
  request.depths = depths;
  CheckRequest(request, config_);
  const Generation generation(0, std::move(request), {});
  std::lock_guard lock(mutex_);
  return PeakOf(generation, generation.depths) * sequences * pool_.row_bytes();
}

size_t Scheduler::PeakOf(const Generation& generation, std::span<const size_t> depths) const {
  for (size_t i = 0; i < depths.size(); ++i) plan_blocks_[i] = subnets_.Blocks(depths[i]);
  const KvPlan plan{schedule_.tokens, plan_blocks_, generation.request.keep_dropped_cache};
  if (generation.lease) {
    std::copy(generation.lease->held().begin(), generation.lease->held().end(), plan_held_.begin());
  } else {
    std::fill(plan_held_.begin(), plan_held_.end(), 0);
  }
  const bool exact = generation.request.deadline_ms == 0;
  const size_t rows = exact ? PeakRows(plan, plan_held_, generation.next_scale)
                            : PeakRowsAtMost(plan, plan_held_, generation.next_scale);
  return rows * generation.num_sequences();
}

EndResult Scheduler::Refusal(const Generation& generation, size_t needed, size_t available, const char* reason) const {
  EndResult result;
  result.ok = false;
  result.code = ErrorCode::kPoolExhausted;
  result.needed_bytes = needed * pool_.row_bytes();
  result.available_bytes = available * pool_.row_bytes();
  // The bridge (leading scales at full depth) stays, unless the plan is nothing but bridge.
  const size_t full = subnets_.full_depth(), num_scales = schedule_.num_scales();
  size_t bridge = 0;
  while (bridge < num_scales && generation.depths[bridge] == full) ++bridge;
  if (bridge == num_scales) bridge = 0;
  for (size_t depth = full; depth >= subnets_.shallowest() && result.deepest_fit == 0; --depth) {
    std::vector<size_t> depths(num_scales, depth);
    std::fill_n(depths.begin(), bridge, full);
    if (PeakOf(generation, depths) <= available) result.deepest_fit = depth;
  }
  result.message = Message("the generation needs ", result.needed_bytes, " bytes of the KV pool, ", reason, " ",
                           result.available_bytes);
  if (result.deepest_fit != 0) result.message += Message("; depth ", result.deepest_fit, " would fit");
  return result;
}

void Scheduler::Admit(std::vector<GenerationPtr>& started, std::vector<Ended>& ended) {
  std::lock_guard lock(mutex_);
  const auto end = [&](const GenerationPtr& generation, EndResult result) {
    ended.push_back({generation, std::move(result)});
  };
  for (const GenerationPtr& generation : running_) {
    if (generation->cancelled.load(std::memory_order_relaxed)) {
      end(generation, Failed(ErrorCode::kAborted, "the generation was cancelled"));
    }
  }
  bool blocked = false;  // somebody waits: nobody overtakes
  for (const GenerationPtr& generation : waiting_) {
    const size_t needed = generation->needed;
    if (generation->cancelled.load(std::memory_order_relaxed)) {
      end(generation, Failed(ErrorCode::kAborted, "the generation was cancelled"));
    } else if (!generation->invalid.ok) {
      end(generation, generation->invalid);
    } else if (needed > pool_.capacity()) {
      end(generation, Refusal(*generation, needed, pool_.capacity(), "the pool has"));
    } else if (!blocked && pool_.Reserve(needed)) {
      generation->reserved = needed;
      generation->stage = Stage::kRunning;
      started.push_back(generation);
    } else if (!generation->request.wait) {
      const char* reason = needed <= pool_.available() ? "others wait in line for the free" : "free are";
      end(generation, Refusal(*generation, needed, pool_.available(), reason));
    } else {
      blocked = true;
    }
  }
  if (started.empty()) return;  // who ended leaves the line with Finish
  std::erase_if(waiting_, [](const GenerationPtr& generation) { return generation->stage == Stage::kRunning; });
  for (const GenerationPtr& generation : started) {
    fair_share_.Join(generation->account);
    running_.push_back(generation);
  }
  const size_t room = 2 * running_.size();
  if (candidates_.capacity() < running_.size()) candidates_.reserve(room), ready_.reserve(room);
  fair_share_.Reserve(running_.size());
}

}  // namespace nextscale
