// A device that says that it is another chip: what plan.h decides by. It runs what the device behind it runs.
#pragma once

#include <memory>
#include <utility>

#include "native/backend/cuda/host/device.h"
#include "test/native/ops/bench.h"

namespace nextscale::cuda::test {

class ChipDevice final : public Device {
 public:
  ChipDevice(std::unique_ptr<Device> device, const nextscale::test::Chip& chip)
      : device_(std::move(device)), info_(device_->info()) {
    info_.num_multiprocessors = chip.num_multiprocessors;
    info_.has_wgmma = info_.has_wgmma && chip.has_wgmma;
  }

  const DeviceInfo& info() const override { return info_; }
  void* Allocate(size_t bytes, const char* what) override { return device_->Allocate(bytes, what); }
  void Free(void* memory) noexcept override { device_->Free(memory); }
  void* AllocatePinned(size_t bytes) override { return device_->AllocatePinned(bytes); }
  void FreePinned(void* memory) noexcept override { device_->FreePinned(memory); }
  void CopyIn(void* to, const void* pinned, size_t bytes) override { device_->CopyIn(to, pinned, bytes); }
  void CopyOut(void* pinned, const void* from, size_t bytes) override { device_->CopyOut(pinned, from, bytes); }
  void CopyWithin(void* to, const void* from, size_t bytes) override { device_->CopyWithin(to, from, bytes); }
  void Clear(void* at, size_t bytes) override { device_->Clear(at, bytes); }
  void Run(const LaunchList& list) override { device_->Run(list); }
  std::unique_ptr<Graph> MakeGraph(const LaunchList& list) override { return device_->MakeGraph(list); }
  void RunGraph(Graph& graph) override { device_->RunGraph(graph); }
  void Wait() override { device_->Wait(); }

 private:
  std::unique_ptr<Device> device_;
  DeviceInfo info_;
};

}  // namespace nextscale::cuda::test
