// Instruction sets. Memory and threads, and what bounds them, are lib/native/machine.ts's to tell.
#pragma once

#include <napi.h>

namespace nextscale::addon {

// cpuInfo() of the contract.
Napi::Value CpuInfo(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
