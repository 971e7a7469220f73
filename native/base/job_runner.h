// A thread for jobs that take long, such as decoding many pictures. Jobs are cut into parts (pictures) and take turns,
// part by part, so that a short one never waits for a long one; the thread's owner may do work of its own in between.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "native/base/cancel.h"
#include "native/base/outcome.h"

namespace nextscale {

struct Job {
  size_t num_parts = 1;
  // On the runner's thread, for every part in order. What it throws ends the job. It should poll the flag where a part
  // takes long, and throw Error(kAborted).
  std::function<void(size_t part, const CancelFlag& cancelled)> run;
  Done done;  // on the runner's thread, exactly once
  // Whoever sets it ends the job: before its next part, or where `run` polls it.
  std::shared_ptr<CancelFlag> cancelled = std::make_shared<CancelFlag>();
  size_t next_part = 0;
};

struct JobStats {
  size_t unfinished = 0;  // jobs that are not done
  size_t parts = 0;       // that have been started since the runner was made
};

class JobRunner {
 public:
  JobRunner() = default;
  ~JobRunner() { Close(); }
  JobRunner(const JobRunner&) = delete;
  JobRunner& operator=(const JobRunner&) = delete;

  // Starts the thread; once. `turn` is called again and again: it does a piece of the owner's work, calls RunOne when a
  // job is due, and returns whether there was anything to do; if not, the thread sleeps until the next Wake. Neither it
  // nor `end`, the last call on the thread, may throw. Without them the thread runs jobs only.
  void Start(std::function<bool()> turn = {}, std::function<void()> end = {});

  // Any thread. Returns the job's flag. Throws Error(kDisposed) once closed.
  std::shared_ptr<CancelFlag> Add(Job job);
  void Wake();
  JobStats stats() const;
  bool closed() const;

  // Any thread but the runner's. Sets the flag of every job; each is done when it returns, and the thread has ended.
  void Close();

  // The runner's thread: ends a job that was cancelled, else runs one part of the job whose turn it is. False when
  // there is none.
  bool RunOne();

 private:
  void Loop(const std::function<bool()>& turn, const std::function<void()>& end);
  std::optional<Job> TakeNext();
  void EndAll();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  uint64_t epoch_ = 0;  // counts what the thread should look at
  bool closed_ = false;
  std::deque<Job> jobs_;
  std::shared_ptr<CancelFlag> current_;  // of the job whose part is running
  std::atomic<size_t> num_parts_{0};

  std::mutex close_mutex_;
  std::thread thread_;
};

}  // namespace nextscale
