// What the CUDA backend asks of a device. Two implementations: the library that nvcc built, loaded at run time
// (library.h), and the kernels' twins on the CPU (twin/device.h), on which the whole backend is tested without a
// device.
//
// Everything but Allocate and Free goes into one queue, in order. One thread at a time, but Free: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "native/backend/cuda/host/launch.h"

namespace nextscale::cuda {

struct DeviceInfo {
  size_t index = 0;
  std::string name;               // "NVIDIA H200"
  uint32_t major = 0, minor = 0;  // compute capability
  uint32_t num_multiprocessors = 0;
  bool has_wgmma = false;  // the chip takes wgmma, and the kernels were compiled for it
  uint64_t total_bytes = 0, free_bytes = 0;
  uint32_t driver_version = 0, runtime_version = 0;  // 1000 · major + 10 · minor
};

// A list that was made ready to run again.
class Graph {
 public:
  virtual ~Graph() = default;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;

  // At least 256-byte aligned, contents undefined. Throws kOutOfMemory with `what` in the message.
  virtual void* Allocate(size_t bytes, const char* what) = 0;
  virtual void Free(void* memory) noexcept = 0;
  // Host memory that copies may read and write while the host goes on.
  virtual void* AllocatePinned(size_t bytes) = 0;
  virtual void FreePinned(void* memory) noexcept = 0;

  virtual void CopyIn(void* to, const void* pinned, size_t bytes) = 0;
  virtual void CopyOut(void* pinned, const void* from, size_t bytes) = 0;
  virtual void CopyWithin(void* to, const void* from, size_t bytes) = 0;
  virtual void Clear(void* at, size_t bytes) = 0;
  virtual void Run(const LaunchList& list) = 0;
  virtual std::unique_ptr<Graph> MakeGraph(const LaunchList& list) = 0;  // runs nothing
  virtual void RunGraph(Graph& graph) = 0;
  // Until the queue is empty. Any call throws kDeviceLost when something that was queued has failed; the device object
  // is of no use afterwards.
  virtual void Wait() = 0;
};

}  // namespace nextscale::cuda
