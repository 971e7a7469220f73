#include "native/base/job_runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace nextscale {
namespace {

// What a job's Done heard. Waits with a limit, so that a lost end fails a test instead of hanging it.
class End {
 public:
  Done MakeDone() {
    return [this](Outcome outcome) {
      std::lock_guard lock(mutex_);
      outcome_ = std::move(outcome);
      ++calls_;
      changed_.notify_all();
    };
  }
  Outcome Wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return calls_ > 0; })) ADD_FAILURE() << "no end";
    return outcome_;
  }
  int calls() {
    std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Outcome outcome_;
  int calls_ = 0;
};

Job MakeJob(size_t num_parts, std::function<void(size_t, const CancelFlag&)> run, End& end) {
  Job job;
  job.num_parts = num_parts;
  job.run = std::move(run);
  job.done = end.MakeDone();
  return job;
}

TEST(JobRunner, JobsTakeTurnsPartByPart) {
  JobRunner runner;
  std::string order;
  End a, b, c;
  // Queued before the thread is there, so that the order is certain.
  runner.Add(MakeJob(
      3, [&](size_t part, const CancelFlag&) { order += "a" + std::to_string(part); }, a));
  runner.Add(MakeJob(
      1, [&](size_t part, const CancelFlag&) { order += "b" + std::to_string(part); }, b));
  runner.Add(MakeJob(
      0, [&](size_t, const CancelFlag&) { order += "never"; }, c));
  EXPECT_EQ(runner.stats().unfinished, 3u);
  runner.Start();
  EXPECT_TRUE(a.Wait().ok && b.Wait().ok && c.Wait().ok);
  runner.Close();
  EXPECT_EQ(order, "a0b0a1a2");
  EXPECT_EQ(runner.stats().parts, 4u);
  EXPECT_EQ(runner.stats().unfinished, 0u);
}

// The flag is set inside a part, which polls it: no other part begins.
TEST(JobRunner, ACancelledJobBeginsNoOtherPart) {
  JobRunner runner;
  std::atomic<size_t> parts{0};
  End end;
  Job job = MakeJob(1000000, {}, end);
  job.run = [&, flag = job.cancelled.get()](size_t part, const CancelFlag& cancelled) {
    ++parts;
    if (part == 2) flag->Set();
    cancelled.Check();
  };
  runner.Add(std::move(job));
  runner.Start();
  EXPECT_EQ(end.Wait().code, ErrorCode::kAborted);
  EXPECT_EQ(parts, 3u);
}

TEST(JobRunner, ACancelledJobInTheQueueDoesNotRunAndDoesNotWaitForItsTurn) {
  JobRunner runner;
  End first, second;
  int second_parts = 0, parts_before = -1;
  std::atomic<int> first_parts{0};
  runner.Add(MakeJob(
      10, [&](size_t, const CancelFlag&) { ++first_parts; }, first));
  Job job = MakeJob(
      10, [&](size_t, const CancelFlag&) { ++second_parts; }, second);
  job.done = [&, done = job.done](Outcome outcome) {
    parts_before = first_parts;
    done(std::move(outcome));
  };
  runner.Add(std::move(job))->Set();
  runner.Start();
  EXPECT_EQ(second.Wait().code, ErrorCode::kAborted);
  EXPECT_TRUE(first.Wait().ok);
  EXPECT_EQ(second_parts, 0);
  EXPECT_EQ(parts_before, 0);
}

TEST(JobRunner, AFlagFollowsTheOneThatItHangsOn) {
  const auto generation = std::make_shared<CancelFlag>();
  const CancelFlag flag(generation);
  EXPECT_FALSE(flag.IsSet());
  EXPECT_NO_THROW(flag.Check());
  generation->Set();
  EXPECT_TRUE(flag.IsSet());
  EXPECT_THROW(flag.Check(), Error);
}

TEST(JobRunner, AThrowEndsItsJobOnly) {
  JobRunner runner;
  runner.Start();
  End broken, sound;
  runner.Add(MakeJob(
      3, [](size_t, const CancelFlag&) { throw Error(ErrorCode::kNotFinite, "no"); }, broken));
  runner.Add(MakeJob(
      3, [](size_t, const CancelFlag&) {}, sound));
  EXPECT_EQ(broken.Wait().code, ErrorCode::kNotFinite);
  EXPECT_TRUE(sound.Wait().ok);
  EXPECT_EQ(broken.calls(), 1);
}

TEST(JobRunner, CloseEndsWhatRunsAndWhatWaits) {
  JobRunner runner;
  runner.Start();
  std::atomic<bool> entered{false};
  End running, waiting;
  runner.Add(MakeJob(
      1,
      [&](size_t, const CancelFlag& cancelled) {
        entered = true;
        while (!cancelled.IsSet()) std::this_thread::yield();
        cancelled.Check();
      },
      running));
  runner.Add(MakeJob(
      1, [](size_t, const CancelFlag&) {}, waiting));
  while (!entered) std::this_thread::yield();
  runner.Close();
  EXPECT_EQ(running.calls(), 1);
  EXPECT_EQ(waiting.calls(), 1);
  EXPECT_EQ(running.Wait().code, ErrorCode::kAborted);
  EXPECT_EQ(waiting.Wait().code, ErrorCode::kDisposed);
  End late;
  EXPECT_THROW(runner.Add(MakeJob(
                   1, [](size_t, const CancelFlag&) {}, late)),
               Error);
  EXPECT_EQ(late.calls(), 0);
}

// The owner's turn comes again after every Wake, and once more than nothing to do.
TEST(JobRunner, TheOwnersTurnIsCalledAfterAWake) {
  JobRunner runner;
  std::atomic<int> turns{0};
  bool ended = false;
  runner.Start(
      [&] {
        ++turns;
        return false;
      },
      [&] { ended = true; });
  while (turns < 1) std::this_thread::yield();
  for (int wakes = 0; wakes < 5; ++wakes) {
    const int before = turns;
    runner.Wake();
    while (turns == before) std::this_thread::yield();
  }
  runner.Close();
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace nextscale
