// Runs single launches on a Device: the twin or a real one.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "native/backend/cuda/device.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda::test {

class Runner {
 public:
  explicit Runner(std::unique_ptr<Device> device) : has_wgmma(device->info().has_wgmma), device_(std::move(device)) {}
  ~Runner() {
    for (void* memory : memory_) device_->Free(memory);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  Device& device() { return *device_; }

  bool has_wgmma;  // what the choice of a kernel is told; may be set to false

  // A copy for kernels, 256-byte aligned.
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    void* const memory = device_->Allocate(std::max<size_t>(bytes, 1), "a test");
    memory_.push_back(memory);
    Through(bytes, [&](void* pinned) {
      if (bytes != 0) std::memcpy(pinned, values.data(), bytes);
      device_->CopyIn(memory, pinned, bytes);
    });
    return static_cast<T*>(memory);
  }
  template <typename T>
  std::vector<T> Download(const T* from, size_t count) {
    std::vector<T> values(count);
    Through(count * sizeof(T), [&](void* pinned) {
      device_->CopyOut(pinned, from, count * sizeof(T));
      device_->Wait();
      if (count != 0) std::memcpy(values.data(), pinned, count * sizeof(T));
    });
    return values;
  }

  // add(list): appends launches, which then run.
  template <typename Add>
  void Run(const Add& add) {
    LaunchList list;
    add(list);
    device_->Run(list);
    device_->Wait();
  }
  void Linear(const LinearArgs& args, uint32_t num_multiprocessors) {
    Run([&](LaunchList& list) { AddLinear(list, args, {num_multiprocessors, has_wgmma}, "test"); });
  }

 private:
  template <typename Task>
  void Through(size_t bytes, const Task& task) {
    void* const pinned = device_->AllocatePinned(std::max<size_t>(bytes, 1));
    try {
      task(pinned);
      device_->Wait();
    } catch (...) {
      device_->FreePinned(pinned);
      throw;
    }
    device_->FreePinned(pinned);
  }

  std::unique_ptr<Device> device_;
  std::vector<void*> memory_;
};

}  // namespace nextscale::cuda::test
