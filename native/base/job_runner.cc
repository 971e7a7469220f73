#include "native/base/job_runner.h"

#include <algorithm>
#include <utility>

namespace nextscale {

void JobRunner::Start(std::function<bool()> turn, std::function<void()> end) {
  if (!turn) turn = [this] { return RunOne(); };
  thread_ = std::thread([this, turn = std::move(turn), end = std::move(end)] { Loop(turn, end); });
}

void JobRunner::Loop(const std::function<bool()>& turn, const std::function<void()>& end) {
  uint64_t seen = 0;
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) break;
      seen = epoch_;  // what comes during the turn is looked at in the next
    }
    if (turn()) continue;
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return epoch_ != seen; });
  }
  EndAll();
  if (end) end();
}

std::shared_ptr<CancelFlag> JobRunner::Add(Job job) {
  std::shared_ptr<CancelFlag> flag = job.cancelled;
  std::lock_guard lock(mutex_);
  NS_REQUIRE(!closed_, ErrorCode::kDisposed, "the model was closed");
  jobs_.push_back(std::move(job));
  ++epoch_;
  wake_.notify_one();
  return flag;
}

void JobRunner::Wake() {
  std::lock_guard lock(mutex_);
  ++epoch_;
  wake_.notify_one();
}

JobStats JobRunner::stats() const {
  std::lock_guard lock(mutex_);
  return {.unfinished = jobs_.size() + (current_ != nullptr ? 1 : 0),
          .parts = num_parts_.load(std::memory_order_relaxed)};
}

bool JobRunner::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

// A job that was cancelled comes first: it costs no time.
std::optional<Job> JobRunner::TakeNext() {
  std::lock_guard lock(mutex_);
  if (jobs_.empty()) return std::nullopt;  // asked in every turn of a busy owner: no Job is made for it
  const auto cancelled = std::find_if(jobs_.begin(), jobs_.end(), [](const Job& j) { return j.cancelled->IsSet(); });
  const auto next = cancelled != jobs_.end() ? cancelled : jobs_.begin();
  std::optional<Job> job(std::move(*next));
  jobs_.erase(next);
  current_ = job->cancelled;
  return job;
}

bool JobRunner::RunOne() {
  std::optional<Job> next = TakeNext();
  if (!next) return false;
  Job& job = *next;
  Outcome outcome;
  try {
    job.cancelled->Check();
    if (job.next_part < job.num_parts) {
      num_parts_.fetch_add(1, std::memory_order_relaxed);
      job.run(job.next_part++, *job.cancelled);
    }
    if (job.next_part < job.num_parts) {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
      current_ = nullptr;
      return true;
    }
  } catch (...) {
    outcome = FromCurrentException();
  }
  {
    std::lock_guard lock(mutex_);
    current_ = nullptr;
  }
  Tell(job.done, std::move(outcome));
  return true;
}

void JobRunner::EndAll() {
  std::deque<Job> left;
  {
    std::lock_guard lock(mutex_);
    left.swap(jobs_);
  }
  for (const Job& job : left) Tell(job.done, Failed(ErrorCode::kDisposed, "the model was closed"));
}

void JobRunner::Close() {
  std::lock_guard closing(close_mutex_);
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const Job& job : jobs_) job.cancelled->Set();
    if (current_ != nullptr) current_->Set();
    ++epoch_;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace nextscale
