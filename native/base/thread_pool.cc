#include "native/base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace nextscale {
namespace {

constexpr int kSpins = 2000;  // about 50 us: longer than the gap between two regions of a block
constexpr uint64_t kIndexMask = 0xFFFFFFFFu;
constexpr uint64_t kClosed = kIndexMask;  // index of a ticket whose region is over

void Relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

// A region is a ticket (region number << 32 | next index). Workers claim indices by compare-and-swap, so a worker that wakes
// late claims nothing and nobody waits for it; the caller waits only for indices that were claimed.
struct ThreadPool::Shared {
  std::atomic<uint64_t> ticket{kClosed};
  // The region's work. Written only while the ticket is closed; a worker that reads them too early fails its claim.
  std::atomic<const void*> closure{nullptr};
  std::atomic<Trampoline> call{nullptr};
  std::atomic<uint64_t> count{0};
  std::atomic<uint64_t> done{0};

  std::atomic<bool> stop{false};
  std::atomic<int> sleepers{0};
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::jthread> threads;

  void Work(uint64_t region, size_t worker) {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    for (;;) {
      const uint64_t index = seen & kIndexMask;
      const void* what = closure.load(std::memory_order_acquire);
      const Trampoline run = call.load(std::memory_order_acquire);
      if ((seen >> 32) != region || index == kClosed || index >= count.load(std::memory_order_acquire)) return;
      if (!ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      run(what, index, worker);
      done.fetch_add(1, std::memory_order_release);
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  bool Idle(uint64_t region) const {
    return (ticket.load(std::memory_order_seq_cst) >> 32) == region && !stop.load(std::memory_order_relaxed);
  }

  void Loop(size_t worker) {
    uint64_t region = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      for (int spin = 0; spin < kSpins && Idle(region); ++spin) Relax();
      if (Idle(region)) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        wake.wait(lock, [&] { return !Idle(region); });
        sleepers.fetch_sub(1, std::memory_order_relaxed);
      }
      region = ticket.load(std::memory_order_acquire) >> 32;
      Work(region, worker);
    }
  }

  void WakeSleepers() {
    if (sleepers.load(std::memory_order_seq_cst) == 0) return;
    { std::lock_guard lock(mutex); }  // a worker between its check and its wait has the lock
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(size_t num_threads) : num_threads_(num_threads < 1 ? 1 : num_threads), shared_(new Shared) {
  for (size_t worker = 1; worker < num_threads_; ++worker) {
    shared_->threads.emplace_back([shared = shared_.get(), worker] { shared->Loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->stop.store(true, std::memory_order_relaxed);
  }
  shared_->wake.notify_all();
  shared_->threads.clear();  // joins
}

void ThreadPool::Run(size_t count, const void* closure, Trampoline call) {
  Shared& shared = *shared_;
  const uint64_t region = ((shared.ticket.load(std::memory_order_relaxed) >> 32) + 1) & kIndexMask;
  shared.closure.store(closure, std::memory_order_release);
  shared.call.store(call, std::memory_order_release);
  shared.count.store(count, std::memory_order_release);
  shared.done.store(0, std::memory_order_relaxed);
  shared.ticket.store(region << 32, std::memory_order_seq_cst);
  shared.WakeSleepers();
  shared.Work(region, 0);
  while (shared.done.load(std::memory_order_acquire) != count) Relax();
  shared.ticket.store((region << 32) | kClosed, std::memory_order_release);
}

}  // namespace nextscale
