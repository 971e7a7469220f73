#include "native/generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"

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
  CheckRequest(request, config_);
  const SchedulerLock lock(mutex_);
  NS_REQUIRE(!closed(), ErrorCode::kDisposed, "the model was closed");
  const auto generation = std::make_shared<Generation>(next_id_, std::move(request), std::move(listener));
  SharedSide& shared = generation->shared(lock);
  shared.needed = PeakOf(lock, *generation, shared.depths);
  waiting_.push_back(generation);
  generations_.emplace(generation->id, generation);
  return next_id_++;
}

void Scheduler::SetDepth(uint64_t id, size_t depth) {
  NS_REQUIRE(subnets_.Has(depth), ErrorCode::kInvalidArgument, "depth must be from ", subnets_.shallowest(), " to ",
             subnets_.full_depth(), ", found ", depth);
  const SchedulerLock lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  Generation& generation = *found->second;
  SharedSide& shared = generation.shared(lock);
  if (shared.stage == Stage::kFinished || shared.next_scale == schedule_.num_scales()) return;
  // What it has now it needs until the next scale begins; from then on, what the new plan needs.
  const size_t used = shared.lease ? shared.lease->used() : 0;
  const auto next = static_cast<std::ptrdiff_t>(shared.next_scale);
  const auto need_at = [&](size_t later_depth) {
    std::copy(shared.depths.begin(), shared.depths.end(), new_depths_.begin());
    std::fill(new_depths_.begin() + next, new_depths_.end(), later_depth);
    return std::max(used, PeakOf(lock, generation, new_depths_));
  };
  const size_t needed = need_at(depth);
  const bool waits = shared.stage == Stage::kWaiting;
  const size_t room = waits ? pool_.capacity() : shared.reserved + pool_.available();
  if (needed > room) {
    throw PoolError(
        Refusal(needed, room,
                Message("depth ", depth, " from scale ", shared.next_scale, " on needs ", needed * pool_.row_bytes(),
                        " bytes of the KV pool, ", room * pool_.row_bytes(), " are free for it"),
                need_at));
  }
  shared.needed = needed;
  if (!waits) {
    pool_.Unreserve(shared.reserved);
    NS_CHECK(pool_.Reserve(needed));
    shared.reserved = needed;
  }
  std::fill(shared.reasons.begin() + next, shared.reasons.end(), DepthReason::kSet);
  std::copy(new_depths_.begin(), new_depths_.end(), shared.depths.begin());
}

void Scheduler::Cancel(uint64_t id) {
  const SchedulerLock lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  found->second->cancelled.Set();
}

void Scheduler::Release(uint64_t id) {
  const SchedulerLock lock(mutex_);
  const auto found = generations_.find(id);
  if (found == generations_.end()) return;
  SharedSide& shared = found->second->shared(lock);
  if (shared.stage == Stage::kFinished) {
    generations_.erase(found);
    return;
  }
  shared.released = true;
  found->second->cancelled.Set();
}

GenerationPtr Scheduler::Find(uint64_t id) const {
  const SchedulerLock lock(mutex_);
  const auto found = generations_.find(id);
  return found == generations_.end() ? nullptr : found->second;
}

void Scheduler::BeginClose() {
  const SchedulerLock lock(mutex_);
  closed_.store(true, std::memory_order_relaxed);
  for (const auto* list : {&waiting_, &running_}) {
    for (const GenerationPtr& generation : *list) generation->cancelled.Set();
  }
}

EngineStats Scheduler::Stats() const {
  const SchedulerLock lock(mutex_);
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
    const SharedSide& shared = generation->shared(lock);
    const size_t used = shared.lease ? shared.lease->used() : 0;
    stats.pool.generations.push_back({generation->id, used * row_bytes, shared.reserved * row_bytes});
  }
  std::sort(stats.pool.generations.begin(), stats.pool.generations.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return stats;
}

void Scheduler::MakeLease(Generation& generation) {
  auto lease = std::make_unique<KvLease>(pool_, subnets_.full_depth(), generation.num_sequences(), schedule_.tokens);
  const SchedulerLock lock(mutex_);
  generation.engine.lease = lease.get();
  generation.shared(lock).lease = std::move(lease);
}

void Scheduler::BeginScale(const SchedulerLock& lock, Generation& generation) {
  SharedSide& shared = generation.shared(lock);
  EngineSide& engine = generation.engine;
  EngineSide::Scale& scale = engine.scale;
  const size_t scale_index = shared.next_scale;
  const size_t previous_depth = scale_index == 0 ? 0 : scale.depth;
  scale.index = scale_index;
  scale.depth = shared.depths[scale_index];
  scale.reason = shared.reasons[scale_index];
  if (generation.request.deadline_ms > 0) {
    DepthPolicy::Question question;
    question.scale_index = scale_index;
    question.ceilings = shared.depths;
    question.allowed = generation.request.deadline_depths;
    question.sequences = generation.num_sequences();
    question.remaining_ms = generation.request.deadline_ms - MsSince(generation.arrival);
    question.load = engine.load;
    question.previous_depth = previous_depth;
    const DepthPolicy::Choice choice = policy_.Choose(question);
    scale.depth = choice.depth;
    if (choice.reason != DepthReason::kPlan) scale.reason = choice.reason;
  }
  scale.images_begun = scale.images_done = 0;
  scale.step_ms = scale.cost_ms = 0;
  scale.result = std::move(engine.results[scale_index]);
  scale.blocks = subnets_.Blocks(scale.depth);
  shared.lease->BeginScale(scale_index, scale.blocks, generation.request.keep_dropped_cache);
  shared.next_scale = scale_index + 1;
  engine.in_scale = true;
}

size_t Scheduler::num_running() const {
  const SchedulerLock lock(mutex_);
  return running_.size();
}

void Scheduler::Collect(std::vector<Unit>& units) {
  const SchedulerLock lock(mutex_);
  candidates_.clear();
  ready_.clear();
  for (const GenerationPtr& generation : running_) {
    SharedSide& shared = generation->shared(lock);
    if (shared.stage != Stage::kRunning || generation->cancelled.IsSet()) continue;
    const EngineSide& engine = generation->engine;
    const size_t scale_index = engine.in_scale ? engine.scale.index : shared.next_scale;
    FairShare::Candidate candidate;
    candidate.account = &shared.account;
    candidate.image_rows = generation->num_branches * schedule_.tokens[scale_index];
    candidate.depth = engine.in_scale ? engine.scale.depth : shared.depths[scale_index];
    candidate.num_images = generation->num_images - (engine.in_scale ? engine.scale.images_begun : 0);
    candidates_.push_back(candidate);
    ready_.push_back(generation.get());
  }
  fair_share_.Compose(candidates_, max_rows_);
  size_t next = 0;
  for (const GenerationPtr& generation : running_) {
    if (next == ready_.size() || ready_[next] != generation.get()) continue;
    FairShare::Candidate& candidate = candidates_[next++];
    if (candidate.granted == 0) continue;
    if (!generation->engine.in_scale) BeginScale(lock, *generation);
    EngineSide::Scale& scale = generation->engine.scale;
    candidate.depth = scale.depth;  // a deadline may have lowered it
    units.push_back({generation, scale.images_begun, candidate.granted});
    scale.images_begun += candidate.granted;
  }
  fair_share_.Book(candidates_);
}

void Scheduler::EndScale(Generation& generation) {
  const EngineSide::Scale& scale = generation.engine.scale;
  const SchedulerLock lock(mutex_);
  SharedSide& shared = generation.shared(lock);
  shared.lease->EndScale();
  generation.engine.in_scale = false;
  if (shared.next_scale == schedule_.num_scales()) GiveBack(lock, generation);
  policy_.Record(scale.index, scale.depth, generation.num_sequences() * schedule_.tokens[scale.index], scale.cost_ms);
  stats_.tokens += generation.num_images * schedule_.tokens[scale.index];
}

void Scheduler::GiveBack(const SchedulerLock& lock, Generation& generation) {
  SharedSide& shared = generation.shared(lock);
  generation.engine.lease = nullptr;
  shared.lease.reset();
  pool_.Unreserve(shared.reserved);
  shared.reserved = 0;
}

void Scheduler::Park(Generation& generation) {
  const SchedulerLock lock(mutex_);
  generation.shared(lock).stage = Stage::kParked;
}

void Scheduler::Unpark(Generation& generation) {
  const SchedulerLock lock(mutex_);
  SharedSide& shared = generation.shared(lock);
  if (shared.stage != Stage::kParked) return;
  shared.stage = Stage::kRunning;
  fair_share_.Join(shared.account);
}

bool Scheduler::Finish(const GenerationPtr& generation) {
  const SchedulerLock lock(mutex_);
  SharedSide& shared = generation->shared(lock);
  if (shared.stage == Stage::kFinished) return false;
  shared.stage = Stage::kFinished;
  GiveBack(lock, *generation);
  std::erase(running_, generation);
  std::erase(waiting_, generation);
  if (shared.released) generations_.erase(generation->id);
  return true;
}

std::vector<GenerationPtr> Scheduler::All() const {
  const SchedulerLock lock(mutex_);
  std::vector<GenerationPtr> all = waiting_;
  all.insert(all.end(), running_.begin(), running_.end());
  return all;
}

void Scheduler::CountBatch(size_t rows, double ms) {
  const SchedulerLock lock(mutex_);
  ++stats_.steps;
  stats_.max_batch_rows = std::max(stats_.max_batch_rows, rows);
  stats_.busy_ms += ms;
}

void Scheduler::CountBusy(double ms) {
  const SchedulerLock lock(mutex_);
  stats_.busy_ms += ms;
}

bool Scheduler::NeedsCalibration(const Generation& generation) const {
  const SchedulerLock lock(mutex_);
  return generation.request.deadline_ms > 0 && !policy_.calibrated();
}

void Scheduler::Calibrate(const BlockCost& cost) {
  const SchedulerLock lock(mutex_);
  policy_.Calibrate(cost);
}

}  // namespace nextscale
