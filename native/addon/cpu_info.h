// What the machine is: instruction sets, cores, memory.
#pragma once

#include <napi.h>

namespace nextscale::addon {

// cpuInfo() of the contract. Memory is the container's where it limits us more than the machine does.
Napi::Value CpuInfo(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
