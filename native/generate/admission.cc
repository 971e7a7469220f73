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
  return PeakOf(generation, generation.depths) * sequences * pool_.row_bytes();
}

size_t Scheduler::PeakOf(const Generation& generation, const std::vector<size_t>& depths) const {
  std::vector<std::span<const uint32_t>> blocks;
  for (size_t depth : depths) blocks.push_back(subnets_.Blocks(depth));
  const KvPlan plan{schedule_.tokens, blocks, generation.request.keep_dropped_cache};
  const auto held = generation.lease ? generation.lease->held() : std::vector<size_t>(subnets_.full_depth());
  const bool exact = generation.request.deadline_ms == 0;
  const size_t rows =
      exact ? PeakRows(plan, held, generation.next_scale) : PeakRowsAtMost(plan, held, generation.next_scale);
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
  const EndResult aborted = Failed(ErrorCode::kAborted, "the generation was cancelled");
  std::lock_guard lock(mutex_);
  for (const GenerationPtr& generation : running_) {
    if (generation->cancelled.load(std::memory_order_relaxed)) ended.push_back({generation, aborted});
  }
  bool blocked = false;  // somebody waits: nobody overtakes
  std::vector<GenerationPtr> still_waiting;
  for (const GenerationPtr& generation : waiting_) {
    if (generation->cancelled.load(std::memory_order_relaxed)) {
      ended.push_back({generation, aborted});
      continue;
    }
    if (!generation->invalid.ok) {
      ended.push_back({generation, generation->invalid});
      continue;
    }
    const size_t needed = PeakOf(*generation, generation->depths);
    if (needed > pool_.capacity()) {
      ended.push_back({generation, Refusal(*generation, needed, pool_.capacity(), "the pool has")});
    } else if (!blocked && pool_.Reserve(needed)) {
      generation->reserved = needed;
      generation->stage = Stage::kRunning;
      started.push_back(generation);
      running_.push_back(generation);
    } else if (!generation->request.wait) {
      const char* reason = needed <= pool_.available() ? "others wait in line for the free" : "free are";
      ended.push_back({generation, Refusal(*generation, needed, pool_.available(), reason)});
    } else {
      blocked = true;
      still_waiting.push_back(generation);
    }
  }
  for (const Ended& end : ended) {  // until Finish
    if (end.generation->stage == Stage::kWaiting) still_waiting.push_back(end.generation);
  }
  waiting_ = std::move(still_waiting);
}

}  // namespace nextscale
