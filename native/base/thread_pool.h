// A pool of worker threads that is handed in, never global: every model owns one.
//
// ParallelFor is the only entry point. The calling thread works too (as worker 0), so a pool of size 1 starts no thread.
// Indices are handed out dynamically, one at a time; results must not depend on which worker took which index.
// Idle workers spin for a short while (regions follow each other within microseconds inside a scale) and then sleep.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace nextscale {

class ThreadPool {
 public:
  // num_threads >= 1, the calling thread included.
  explicit ThreadPool(size_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t size() const { return num_threads_; }

  // Calls task(index, worker) for every index in [0, count), worker in [0, size()). Returns when all calls have returned.
  // One caller at a time; tasks must not throw and must not call ParallelFor.
  template <typename Task>
  void ParallelFor(size_t count, const Task& task) {
    if (count == 0) return;
    if (count == 1 || num_threads_ == 1) {
      for (size_t index = 0; index < count; ++index) task(index, size_t{0});
      return;
    }
    Run(count, &task, [](const void* closure, size_t index, size_t worker) {
      (*static_cast<const Task*>(closure))(index, worker);
    });
  }

 private:
  using Trampoline = void (*)(const void* closure, size_t index, size_t worker);
  void Run(size_t count, const void* closure, Trampoline call);

  struct Shared;
  size_t num_threads_;
  std::unique_ptr<Shared> shared_;
};

}  // namespace nextscale
