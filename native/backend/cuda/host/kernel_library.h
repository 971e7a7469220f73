// The library of kernels (libnextscale_cuda), loaded when a device is wanted and not before.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "native/backend/cuda/host/device.h"

namespace nextscale::cuda {

class Library : public std::enable_shared_from_this<Library> {
 public:
  // Throws kDeviceUnavailable: there is no such file, it cannot be loaded, or it is of another version of nextscale.
  static std::shared_ptr<Library> Open(const std::string& path);
  virtual ~Library() = default;

  // Throws kDeviceUnavailable with the driver's words where there is no driver, or one that is too old.
  virtual std::vector<DeviceInfo> Devices() = 0;
  // Throws kDeviceUnavailable for an index that is not there or a chip below sm_80. The device keeps the library.
  virtual std::unique_ptr<Device> OpenDevice(size_t index) = 0;
};

}  // namespace nextscale::cuda
