// The model's ops on a CUDA device.
//
// An op is not launched when it is issued: it becomes one or more entries of a LaunchList, and its tables (row spans,
// sequences, slots, labels) go to the next place of a pinned staging area that mirrors a fixed region of device memory.
// At Section, Upload, Download, Copy and Wait the tables are copied in one piece, and the list runs: as a graph, when
// an equal list has run before.
#pragma once

#include <memory>

#include "native/backend/cuda/host/device.h"
#include "native/ops/backend.h"

namespace nextscale::cuda {

// dtype: of weights and activations; sums are f32 always. kF32 is for checking: no tensor cores.
std::unique_ptr<Backend> MakeCudaBackend(std::unique_ptr<Device> device, DType dtype);

}  // namespace nextscale::cuda
