#include "native/generate/jobs.h"

#include <utility>

namespace nextscale {

bool JobQueue::Add(Job job) {
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  jobs_.push_back(std::move(job));
  return true;
}

bool JobQueue::RunOne() {
  Job job;
  {
    std::lock_guard lock(mutex_);
    if (jobs_.empty()) return false;
    job = std::move(jobs_.front());
    jobs_.pop_front();
  }
  EndResult result;
  try {
    if (job.next_image < job.num_images) job.run(job.next_image++);
    if (job.next_image < job.num_images) {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
      return true;
    }
  } catch (...) {
    result = FromCurrentException();
  }
  Tell(job.done, std::move(result));
  return true;
}

size_t JobQueue::size() const {
  std::lock_guard lock(mutex_);
  return jobs_.size();
}

void JobQueue::Close(const EndResult& result) {
  std::deque<Job> left;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(jobs_);
  }
  for (const Job& job : left) Tell(job.done, EndResult(result));
}

}  // namespace nextscale
