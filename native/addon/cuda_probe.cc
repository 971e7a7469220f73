#include "native/addon/cuda_probe.h"

#include <string>

#include "native/addon/error_map.h"
#include "native/addon/values.h"
#include "native/backend/cpu/cpu_backend.h"
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/host/kernel_library.h"
#include "native/backend/cuda/host/self_check.h"

namespace nextscale::addon {
namespace {

// Why a device cannot be used; empty when it can.
std::string ProblemOf(cuda::Library& library, const cuda::DeviceInfo& info) {
  try {
    CpuBackend cpu(1);
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      const std::unique_ptr<Backend> backend = cuda::MakeCudaBackend(library.OpenDevice(info.index), dtype);
      cuda::SelfCheck(*backend, cpu, info.num_multiprocessors);
    }
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string Version(uint32_t number) {  // 1000 · major + 10 · minor
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

Napi::Value ProbeCuda(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Translated(env, [&]() -> Napi::Value {
    const std::string path = ToText(info[0], "library");
    const std::shared_ptr<cuda::Library> library = cuda::Library::Open(path);
    Napi::Array devices = Napi::Array::New(env);
    for (const cuda::DeviceInfo& found : library->Devices()) {
      Napi::Object device = Napi::Object::New(env);
      device.Set("index", static_cast<double>(found.index));
      device.Set("name", found.name);
      device.Set("capability", std::to_string(found.major) + "." + std::to_string(found.minor));
      device.Set("multiprocessors", static_cast<double>(found.num_multiprocessors));
      device.Set("totalBytes", static_cast<double>(found.total_bytes));
      device.Set("freeBytes", static_cast<double>(found.free_bytes));
      device.Set("driver", Version(found.driver_version));
      device.Set("runtime", Version(found.runtime_version));
      const std::string problem = ProblemOf(*library, found);
      device.Set("problem", problem.empty() ? env.Null() : Napi::Value(Napi::String::New(env, problem)));
      devices.Set(devices.Length(), device);
    }
    return devices;
  });
}

}  // namespace nextscale::addon
