// A device made of the kernels' twins: memory is the process's, and every launch runs on the CPU when it is issued.
// With switches and counters for tests: a limit of memory, a failure at a chosen launch.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "native/backend/cuda/host/device.h"
#include "native/backend/cuda/kernels/kernel_list.h"
#include "native/backend/cuda/kernels/thread.h"
#include "native/base/error.h"

namespace nextscale::cuda {

// What a test sets, and what it may look at afterwards. Outlives the device.
struct TwinControl {
  size_t memory_limit = ~size_t{0};
  size_t fail_at_launch = ~size_t{0};  // counted from 0 over all launches
  size_t skip_launch = ~size_t{0};     // does nothing: a kernel that does not work
  uint64_t seed = 1;                   // of the order of threads
  // Counters.
  size_t bytes = 0, most_bytes = 0, num_allocations = 0;
  size_t launches = 0, lists_run = 0, graphs_made = 0, graphs_run = 0, waits = 0, copies = 0;
  uint64_t bank_conflicts = 0;  // of ldmatrix
  std::set<KernelId> kernels;   // that have run
};

class TwinDevice final : public Device {
 public:
  explicit TwinDevice(std::shared_ptr<TwinControl> control) : control_(std::move(control)), machine_(control_->seed) {
    info_.name = "twin";
    info_.major = 9;
    info_.has_wgmma = true;
    info_.num_multiprocessors = 2;
    info_.total_bytes = info_.free_bytes = control_->memory_limit;
  }

  const DeviceInfo& info() const override { return info_; }

  void* Allocate(size_t bytes, const char* what) override {
    std::lock_guard lock(mutex_);
    CheckAlive();
    NS_REQUIRE(bytes <= control_->memory_limit - control_->bytes, ErrorCode::kOutOfMemory, "CUDA: allocating ", bytes,
               " bytes for ", what, ": out of memory");
    // Exactly as many bytes as were asked for, so that a sanitizer sees every step beside them.
    void* const memory = ::operator new (bytes, std::align_val_t{256});
    std::memset(memory, 0xFF, bytes);
    sizes_[memory] = bytes;
    control_->bytes += bytes;
    control_->most_bytes = std::max(control_->most_bytes, control_->bytes);
    ++control_->num_allocations;
    return memory;
  }
  void Free(void* memory) noexcept override {
    std::lock_guard lock(mutex_);
    control_->bytes -= sizes_[memory];
    sizes_.erase(memory);
    ::operator delete (memory, std::align_val_t{256});
  }
  void* AllocatePinned(size_t bytes) override { return ::operator new (bytes, std::align_val_t{256}); }
  void FreePinned(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{256}); }

  void CopyIn(void* to, const void* pinned, size_t bytes) override { Copy(to, pinned, bytes); }
  void CopyOut(void* pinned, const void* from, size_t bytes) override { Copy(pinned, from, bytes); }
  void CopyWithin(void* to, const void* from, size_t bytes) override { Copy(to, from, bytes); }
  void Clear(void* at, size_t bytes) override {
    CheckAlive();
    std::memset(at, 0, bytes);
  }
  void Run(const LaunchList& list) override {
    ++control_->lists_run;
    RunAll(list);
  }
  std::unique_ptr<Graph> MakeGraph(const LaunchList& list) override {
    CheckAlive();
    ++control_->graphs_made;
    return std::make_unique<TwinGraph>(list);
  }
  void RunGraph(Graph& graph) override {
    ++control_->graphs_run;
    RunAll(static_cast<TwinGraph&>(graph).list);
  }
  void Wait() override {
    ++control_->waits;
    CheckAlive();
  }

 private:
  struct TwinGraph final : Graph {
    explicit TwinGraph(const LaunchList& its_list) : list(its_list) {}
    LaunchList list;
  };

  void CheckAlive() const {
    if (!lost_.empty()) throw Error(ErrorCode::kDeviceLost, lost_);
  }
  void Copy(void* to, const void* from, size_t bytes) {
    CheckAlive();
    ++control_->copies;
    std::memcpy(to, from, bytes);
  }
  void RunAll(const LaunchList& list) {
    CheckAlive();
    for (const Launch& launch : list.launches()) {
      const size_t number = control_->launches++;
      if (number == control_->skip_launch) continue;
      if (number == control_->fail_at_launch) {
        lost_ = Message("CUDA: kernel ", KernelName(launch.kernel), " of ", launch.op, ": planted failure");
        CheckAlive();
      }
      RunOne(launch, list.args().data() + launch.args_offset);
    }
  }
  void RunOne(const Launch& launch, const std::byte* bytes) {
    const twin_side::Machine::Grid grid{launch.shape.x, launch.shape.y, launch.shape.z};
    const int threads = static_cast<int>(launch.shape.threads);
    control_->kernels.insert(launch.kernel);
    const uint64_t conflicts = machine_.bank_conflicts();
    RunKernel(launch, bytes, grid, threads);
    control_->bank_conflicts += machine_.bank_conflicts() - conflicts;
  }
  void RunKernel(const Launch& launch, const std::byte* bytes, const twin_side::Machine::Grid& grid, int threads);

  std::shared_ptr<TwinControl> control_;
  twin_side::Machine machine_;
  DeviceInfo info_;
  std::string lost_;
  std::mutex mutex_;  // of memory
  std::map<void*, size_t> sizes_;
};

}  // namespace nextscale::cuda
