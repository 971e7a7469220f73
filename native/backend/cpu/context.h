// What every kernel is given besides its arguments: threads, and scratch memory of each thread.
#pragma once

#include <cstddef>

#include "native/base/thread_pool.h"
#include "native/tensor/buffer.h"

namespace nextscale {

class Context {
 public:
  static constexpr size_t kScratchBytes = size_t{4} << 20;  // per worker; kernels tile their work to fit

  explicit Context(size_t num_threads) : pool_(num_threads), scratch_(num_threads * kScratchBytes) {}

  ThreadPool& pool() { return pool_; }
  const ThreadPool& pool() const { return pool_; }
  // Scratch of one worker, 64-byte aligned; contents are undefined between two calls of a kernel.
  template <typename T>
  T* scratch(size_t worker) const {
    return reinterpret_cast<T*>(scratch_.data() + worker * kScratchBytes);
  }

 private:
  ThreadPool pool_;
  Buffer scratch_;
};

}  // namespace nextscale
