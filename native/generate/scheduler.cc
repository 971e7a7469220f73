#include "native/generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "native/generate/outcome.h"

namespace nextscale {

Scheduler::Scheduler(const ModelConfig& config, Buffer kv_rows, size_t kv_row_bytes, Strategy strategy, size_t max_rows,
                     size_t part_rows)
    : config_(config),
      schedule_(config.tokenizer.sides),
      subnets_(config.transformer.depth, strategy),
      max_rows_(max_rows),
      pool_(std::move(kv_rows), kv_row_bytes),
      policy_(schedule_, config.transformer.depth),
      fair_share_(part_rows),
      new_depths_(config.num_scales()),
      plan_blocks_(config.num_scales()),
      plan_held_(config.transformer.depth) {}

uint64_t Scheduler::Add(Request request, Listener listener) {
  EndResult invalid;
  try {
    CheckRequest(request, config_);
  } catch (const Error& error) {
    invalid = {false, error.code(), error.what(), 0, 0, 0};
  }
  std::lock_guard lock(mutex_);
  NS_REQUIRE(!closed(), ErrorCode::kDisposed, "the model was closed");
  const auto generation = std::make_shared<Generation>(next_id_, std::move(request), std::move(listener));
  generation->invalid = std::move(invalid);
  if (generation->invalid.ok) generation->needed = PeakOf(*generation, generation->depths);
  waiting_.push_back(generation);
  generations_.emplace(generation->id, generation);
  ++next_id_;
  ++epoch_;
  wake_.notify_one();
  return generation->id;
}

void Scheduler::SetDepth(uint64_t id, size_t depth) {
  NS_REQUIRE(subnets_.Has(depth), ErrorCode::kInvalidArgument, "depth must be from ", subnets_.shallowest(), " to ",
             subnets_.full_depth(), ", found ", depth);
  std::lock_guard lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  Generation& generation = *found->second;
  const bool over = generation.stage == Stage::kFinished || generation.next_scale == schedule_.num_scales();
  if (over || !generation.invalid.ok) return;
  // What it has now it needs until the next scale begins; from then on, what the new plan needs.
  const size_t used = generation.lease ? generation.lease->used() : 0;
  const auto need_at = [&](size_t later_depth) {
    std::copy(generation.depths.begin(), generation.depths.end(), new_depths_.begin());
    std::fill(new_depths_.begin() + static_cast<std::ptrdiff_t>(generation.next_scale), new_depths_.end(), later_depth);
    return std::max(used, PeakOf(generation, new_depths_));
  };
  const size_t needed = need_at(depth);
  const bool waits = generation.stage == Stage::kWaiting;
  const size_t room = waits ? pool_.capacity() : generation.reserved + pool_.available();
  if (needed > room) {
    EndResult refusal = Failed(ErrorCode::kPoolExhausted, "");
    refusal.needed_bytes = needed * pool_.row_bytes();
    refusal.available_bytes = room * pool_.row_bytes();
    for (size_t fit = subnets_.full_depth(); fit >= subnets_.shallowest() && refusal.deepest_fit == 0; --fit) {
      if (need_at(fit) <= room) refusal.deepest_fit = fit;
    }
    refusal.message =
        Message("depth ", depth, " from scale ", generation.next_scale, " on needs ", refusal.needed_bytes,
                " bytes of the KV pool, ", refusal.available_bytes, " are free for it");
    if (refusal.deepest_fit != 0) refusal.message += Message("; depth ", refusal.deepest_fit, " would fit");
    throw PoolError(std::move(refusal));
  }
  generation.needed = needed;
  if (!waits) {
    pool_.Unreserve(generation.reserved);
    NS_CHECK(pool_.Reserve(needed));
    generation.reserved = needed;
  }
  std::fill(generation.reasons.begin() + static_cast<std::ptrdiff_t>(generation.next_scale), generation.reasons.end(),
            DepthReason::kSet);
  std::copy(new_depths_.begin(), new_depths_.end(), generation.depths.begin());
  ++epoch_;  // others may fit now
  wake_.notify_one();
}

void Scheduler::Cancel(uint64_t id) {
  std::lock_guard lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  found->second->cancelled.store(true, std::memory_order_relaxed);
  ++epoch_;
  wake_.notify_one();
}

void Scheduler::Release(uint64_t id) {
  std::lock_guard lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  if (found->second->stage == Stage::kFinished) {
    generations_.erase(found);
    return;
  }
  found->second->released = true;
  found->second->cancelled.store(true, std::memory_order_relaxed);
  ++epoch_;
  wake_.notify_one();
}

GenerationPtr Scheduler::Find(uint64_t id) const {
  std::lock_guard lock(mutex_);
  const auto found = generations_.find(id);
  return found == generations_.end() ? nullptr : found->second;
}

void Scheduler::Notify() {
  std::lock_guard lock(mutex_);
  ++epoch_;
  wake_.notify_one();
}

void Scheduler::BeginClose() {
  std::lock_guard lock(mutex_);
  closed_.store(true, std::memory_order_relaxed);
  for (const auto* list : {&waiting_, &running_}) {
    for (const GenerationPtr& generation : *list) generation->cancelled.store(true, std::memory_order_relaxed);
  }
  ++epoch_;
  wake_.notify_one();
}

uint64_t Scheduler::epoch() const {
  std::lock_guard lock(mutex_);
  return epoch_;
}

void Scheduler::WaitBeyond(uint64_t epoch) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return epoch_ != epoch; });
}

EngineStats Scheduler::Stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.running = running_.size();
  stats.waiting = waiting_.size();
  stats.scale_times = policy_.Times();
  const size_t row_bytes = pool_.row_bytes();
  stats.pool.capacity_bytes = pool_.budget_bytes();
  stats.pool.used_bytes = pool_.used() * row_bytes;
  stats.pool.peak_bytes = pool_.peak() * row_bytes;
  stats.pool.reserved_bytes = pool_.reserved() * row_bytes;
  for (const GenerationPtr& generation : running_) {
    const size_t used = generation->lease ? generation->lease->used() : 0;
    stats.pool.generations.push_back({generation->id, used * row_bytes, generation->reserved * row_bytes});
  }
  std::sort(stats.pool.generations.begin(), stats.pool.generations.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return stats;
}

void Scheduler::MakeLease(Generation& generation) {
  auto lease = std::make_unique<KvLease>(pool_, subnets_.full_depth(), generation.num_sequences(), schedule_.tokens);
  std::lock_guard lock(mutex_);
  generation.lease = std::move(lease);
}

void Scheduler::BeginScale(Generation& generation) {
  const size_t scale_index = generation.next_scale;
  Generation::Scale& scale = generation.scale;
  const size_t previous_depth = scale_index == 0 ? 0 : scale.depth;
  scale.index = scale_index;
  scale.depth = generation.depths[scale_index];
  scale.reason = generation.reasons[scale_index];
  if (generation.request.deadline_ms > 0) {
    DepthPolicy::Question question;
    question.scale_index = scale_index;
    question.ceilings = generation.depths;
    question.allowed = generation.request.deadline_depths;
    question.sequences = generation.num_sequences();
    question.remaining_ms = generation.request.deadline_ms - MsSince(generation.arrival);
    question.load = generation.load;
    question.previous_depth = previous_depth;
    const DepthPolicy::Choice choice = policy_.Choose(question);
    scale.depth = choice.depth;
    if (choice.reason != DepthReason::kPlan) scale.reason = choice.reason;
  }
  scale.images_begun = scale.images_done = 0;
  scale.step_ms = scale.cost_ms = 0;
  scale.result = std::move(generation.results[scale_index]);
  scale.blocks = subnets_.Blocks(scale.depth);
  generation.lease->BeginScale(scale_index, scale.blocks, generation.request.keep_dropped_cache);
  generation.next_scale = scale_index + 1;
  generation.in_scale = true;
}

size_t Scheduler::num_running() const {
  std::lock_guard lock(mutex_);
  return running_.size();
}

void Scheduler::Collect(std::vector<Unit>& units) {
  std::lock_guard lock(mutex_);
  candidates_.clear();
  ready_.clear();
  for (const GenerationPtr& generation : running_) {
    if (generation->stage != Stage::kRunning || generation->cancelled.load(std::memory_order_relaxed)) continue;
    const Generation::Scale& scale = generation->scale;
    const size_t scale_index = generation->in_scale ? scale.index : generation->next_scale;
    FairShare::Candidate candidate;
    candidate.account = &generation->account;
    candidate.image_rows = generation->num_branches * schedule_.tokens[scale_index];
    candidate.depth = generation->in_scale ? scale.depth : generation->depths[scale_index];
    candidate.num_images = generation->num_images - (generation->in_scale ? scale.images_begun : 0);
    candidates_.push_back(candidate);
    ready_.push_back(generation.get());
  }
  fair_share_.Compose(candidates_, max_rows_);
  size_t next = 0;
  for (const GenerationPtr& generation : running_) {
    if (next == ready_.size() || ready_[next] != generation.get()) continue;
    FairShare::Candidate& candidate = candidates_[next++];
    if (candidate.granted == 0) continue;
    if (!generation->in_scale) BeginScale(*generation);
    Generation::Scale& scale = generation->scale;
    candidate.depth = scale.depth;  // a deadline may have lowered it
    units.push_back({generation, scale.images_begun, candidate.granted});
    scale.images_begun += candidate.granted;
  }
  fair_share_.Book(candidates_);
}

void Scheduler::EndScale(Generation& generation) {
  const Generation::Scale& scale = generation.scale;
  std::lock_guard lock(mutex_);
  generation.lease->EndScale();
  generation.in_scale = false;
  if (generation.next_scale == schedule_.num_scales()) GiveBack(generation);
  policy_.Record(scale.index, scale.depth, generation.num_sequences() * schedule_.tokens[scale.index], scale.cost_ms);
  stats_.tokens += generation.num_images * schedule_.tokens[scale.index];
}

void Scheduler::GiveBack(Generation& generation) {
  generation.lease.reset();
  pool_.Unreserve(generation.reserved);
  generation.reserved = 0;
}

void Scheduler::Park(Generation& generation) {
  std::lock_guard lock(mutex_);
  generation.stage = Stage::kParked;
}

void Scheduler::Unpark(Generation& generation) {
  std::lock_guard lock(mutex_);
  if (generation.stage != Stage::kParked) return;
  generation.stage = Stage::kRunning;
  fair_share_.Join(generation.account);
}

bool Scheduler::Finish(const GenerationPtr& generation) {
  std::lock_guard lock(mutex_);
  if (generation->stage == Stage::kFinished) return false;
  generation->stage = Stage::kFinished;
  GiveBack(*generation);
  std::erase(running_, generation);
  std::erase(waiting_, generation);
  if (generation->released) generations_.erase(generation->id);
  return true;
}

std::vector<GenerationPtr> Scheduler::All() const {
  std::lock_guard lock(mutex_);
  std::vector<GenerationPtr> all = waiting_;
  all.insert(all.end(), running_.begin(), running_.end());
  return all;
}

void Scheduler::CountBatch(size_t rows, double ms) {
  std::lock_guard lock(mutex_);
  ++stats_.steps;
  stats_.max_batch_rows = std::max(stats_.max_batch_rows, rows);
  stats_.busy_ms += ms;
}

void Scheduler::CountBusy(double ms) {
  std::lock_guard lock(mutex_);
  stats_.busy_ms += ms;
}

bool Scheduler::NeedsCalibration(const Generation& generation) const {
  std::lock_guard lock(mutex_);
  return generation.request.deadline_ms > 0 && !policy_.calibrated();
}

void Scheduler::Calibrate(const BlockCost& cost) {
  std::lock_guard lock(mutex_);
  policy_.Calibrate(cost);
}

}  // namespace nextscale
