// probeCuda() of the contract: which CUDA devices there are, and whether they compute what they should. Takes seconds
// and may take the process with it, should the driver be broken: the facade runs it in a child process
// (lib/native/cuda.ts).
#pragma once

#include <napi.h>

namespace nextscale::addon {

Napi::Value ProbeCuda(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
