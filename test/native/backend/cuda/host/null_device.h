// A device that does nothing and counts what it is asked for: for what can be said of the host's side without kernels.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>

#include "native/backend/cuda/host/device.h"

namespace nextscale::cuda::test {

// Outlives the device.
struct NullCounts {
  size_t lists = 0, launches = 0, graphs_made = 0, graphs_run = 0, waits = 0;
  size_t uploads = 0, uploaded_bytes = 0;  // copies to the device
};

class NullDevice final : public Device {
 public:
  // An H100's figures.
  explicit NullDevice(std::shared_ptr<NullCounts> counts) : counts_(std::move(counts)) {
    info_.name = "null";
    info_.major = 9;
    info_.has_wgmma = true;
    info_.num_multiprocessors = 132;
    info_.total_bytes = info_.free_bytes = size_t{1} << 40;
  }

  const DeviceInfo& info() const override { return info_; }
  void* Allocate(size_t bytes, const char*) override { return AllocatePinned(bytes); }
  void Free(void* memory) noexcept override { std::free(memory); }
  void* AllocatePinned(size_t bytes) override { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
  void FreePinned(void* memory) noexcept override { std::free(memory); }
  void CopyIn(void*, const void*, size_t bytes) override {
    ++counts_->uploads;
    counts_->uploaded_bytes += bytes;
  }
  void CopyOut(void* pinned, const void*, size_t bytes) override { std::memset(pinned, 0, bytes); }  // token 0
  void CopyWithin(void*, const void*, size_t) override {}
  void Clear(void*, size_t) override {}
  void Run(const LaunchList& list) override {
    ++counts_->lists;
    counts_->launches += list.launches().size();
  }
  std::unique_ptr<Graph> MakeGraph(const LaunchList&) override {
    ++counts_->graphs_made;
    return std::make_unique<Graph>();
  }
  void RunGraph(Graph&) override { ++counts_->graphs_run; }
  void Wait() override { ++counts_->waits; }

 private:
  std::shared_ptr<NullCounts> counts_;
  DeviceInfo info_;
};

}  // namespace nextscale::cuda::test
