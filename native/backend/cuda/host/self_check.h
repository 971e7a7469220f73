// Whether a device computes what it should: a few ops of every kind against the CPU, in milliseconds. Run before a
// device is used for the first time (the trial in a child process), because a driver that answers may still be broken.
#pragma once

#include <cstddef>

#include "native/ops/backend.h"

namespace nextscale::cuda {

// Throws kDeviceUnavailable that names the op and how far off its result is; what the device itself throws passes
// through. `backend`: of the device, in any format; `reference`: the CPU's. `num_multiprocessors`: of the device, so
// that the products are of the size for each of the kernels.
void SelfCheck(Backend& backend, Backend& reference, size_t num_multiprocessors);

}  // namespace nextscale::cuda
