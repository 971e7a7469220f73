#include "native/addon/cpu_info.h"

// First of all Highway headers: it says which targets are compiled.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include "native/backend/cpu/simd.h"

namespace nextscale::addon {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

// The first number of a file; kUnknown when it has none ("max", or no such file).
uint64_t ReadNumber(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : kUnknown;
}

struct Memory {
  uint64_t total = 0, free = 0;
};

Memory MachineMemory() {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  Memory memory{.total = page * static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)), .free = 0};
#if defined(_SC_AVPHYS_PAGES)
  memory.free = page * static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES));
#else
  memory.free = memory.total / 2;  // macOS does not say; half is what its own memory pressure tolerates
#endif
  // Linux: what could be had without swapping, the page cache included.
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (uint64_t kilobytes = 0; file >> key >> kilobytes; std::getline(file, unit)) {
    if (key == "MemAvailable:") memory.free = kilobytes * 1024;
  }
  return memory;
}

// The control group's limit, version 2 and version 1.
void ApplyContainerLimit(Memory& memory) {
  const char* const files[][2] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& [limit_file, usage_file] : files) {
    const uint64_t limit = ReadNumber(limit_file), used = ReadNumber(usage_file);
    if (limit == kUnknown || used == kUnknown) continue;
    memory.total = std::min(memory.total, limit);
    memory.free = std::min(memory.free, limit > used ? limit - used : 0);
  }
}

Napi::Array SupportedTargets(Napi::Env env) {
  Napi::Array names = Napi::Array::New(env);
  // The best target has the lowest bit.
  for (int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    names.Set(names.Length(), Napi::String::New(env, hwy::TargetName(left & -left)));
  }
  return names;
}

}  // namespace

Napi::Value CpuInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Memory memory = MachineMemory();
  ApplyContainerLimit(memory);
  Napi::Object result = Napi::Object::New(env);
  result.Set("target", Napi::String::New(env, std::string(SimdTargetName())));
  result.Set("supported", SupportedTargets(env));
  result.Set("cores", Napi::Number::New(env, std::max(1u, std::thread::hardware_concurrency())));
  result.Set("totalMemoryBytes", Napi::Number::New(env, static_cast<double>(memory.total)));
  result.Set("freeMemoryBytes", Napi::Number::New(env, static_cast<double>(memory.free)));
  return result;
}

}  // namespace nextscale::addon
