// The library's side of the boundary (abi.h): memory, copies, launches and graphs on one stream of one context per
// opened device. No exception leaves it, nothing is global but the driver's functions, which never change.
//
// Every opened device has a context of its own, so that a failure (an illegal address, say) makes that one useless and
// no other; closing it frees all that it had. The driver is looked up at run time: without one the library still loads.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "native/backend/cuda/library/abi.h"
#include "native/backend/cuda/library/global_functions.h"

namespace nextscale::cuda {
namespace {

using abi::Status;

template <typename... Parts>
int32_t Fail(int32_t code, Status* status, const char* format, Parts... parts) {
  std::snprintf(status->message, sizeof status->message, format, parts...);
  return code;
}

int32_t FailCuda(cudaError_t error, Status* status, const char* what) {
  (void)cudaGetLastError();  // one that is not sticky is forgotten
  const int32_t code = error == cudaErrorMemoryAllocation ? abi::kOutOfMemory : abi::kLost;
  return Fail(code, status, "CUDA: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

#define NS_TRY(call, what)                                                          \
  do {                                                                              \
    const cudaError_t error_of_call = (call);                                       \
    if (error_of_call != cudaSuccess) return FailCuda(error_of_call, status, what); \
  } while (false)

// ------------------------------------------------------------------ driver

// The few functions of libcuda that the runtime has no name for. Their versions are as old as contexts themselves.
struct Driver {
  int (*init)(unsigned) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*context_create)(void**, unsigned, int) = nullptr;
  int (*context_destroy)(void*) = nullptr;
  int (*context_set)(void*) = nullptr;
  const char* missing = nullptr;

  Driver() {
    void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      missing = "no driver: libcuda.so.1 was not found";
      return;
    }
    init = reinterpret_cast<decltype(init)>(dlsym(library, "cuInit"));
    device_get = reinterpret_cast<decltype(device_get)>(dlsym(library, "cuDeviceGet"));
    context_create = reinterpret_cast<decltype(context_create)>(dlsym(library, "cuCtxCreate_v2"));
    context_destroy = reinterpret_cast<decltype(context_destroy)>(dlsym(library, "cuCtxDestroy_v2"));
    context_set = reinterpret_cast<decltype(context_set)>(dlsym(library, "cuCtxSetCurrent"));
    if (!init || !device_get || !context_create || !context_destroy || !context_set) {
      missing = "the driver is incomplete: libcuda.so.1 lacks functions of contexts";
    }
  }
};

const Driver& TheDriver() {
  static const Driver driver;
  return driver;
}

int32_t CheckDriver(Status* status) {
  const Driver& driver = TheDriver();
  if (driver.missing != nullptr) return Fail(abi::kUnavailable, status, "%s", driver.missing);
  if (const int code = driver.init(0); code != 0) {
    return Fail(abi::kUnavailable, status, "the driver does not start: cuInit failed with %d", code);
  }
  int driver_version = 0, runtime_version = 0;
  (void)cudaDriverGetVersion(&driver_version);
  (void)cudaRuntimeGetVersion(&runtime_version);
  if (driver_version / 1000 < runtime_version / 1000) {
    return Fail(abi::kUnavailable, status, "the driver is too old: it supports CUDA %d.%d, expected %d.0 or later",
                driver_version / 1000, driver_version % 1000 / 10, runtime_version / 1000);
  }
  return abi::kOk;
}

int32_t Count(uint32_t* count, Status* status) {
  *count = 0;
  if (const int32_t code = CheckDriver(status); code != abi::kOk) return code;
  int found = 0;
  const cudaError_t error = cudaGetDeviceCount(&found);
  if (error == cudaErrorNoDevice)
    found = 0;
  else if (error != cudaSuccess)
    return Fail(abi::kUnavailable, status, "CUDA: %s", cudaGetErrorString(error));
  *count = static_cast<uint32_t>(found);
  return abi::kOk;
}

// ------------------------------------------------------------------ device

struct OpenDevice {
  void* context = nullptr;
  cudaStream_t stream = nullptr;
  bool checked = false;  // wait after every launch, so that an error names the kernel (NEXTSCALE_CUDA_CHECK=1)
  uint32_t shared_bytes[kNumKernels] = {};  // what each kernel was allowed so far
  // What was queued since the last wait, for messages.
  const char *first_op = nullptr, *last_op = nullptr;
  uint32_t num_queued = 0;

  ~OpenDevice() {
    if (context == nullptr) return;
    const Driver& driver = TheDriver();
    (void)driver.context_set(context);
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
    (void)driver.context_set(nullptr);
    (void)driver.context_destroy(context);
  }
};

int32_t Enter(const OpenDevice& device, Status* status) {
  if (const int code = TheDriver().context_set(device.context); code != 0) {
    return Fail(abi::kLost, status, "CUDA: the device's context is gone: cuCtxSetCurrent failed with %d", code);
  }
  return abi::kOk;
}

#define NS_ENTER(device)                           \
  do {                                             \
    const int32_t entered = Enter(device, status); \
    if (entered != abi::kOk) return entered;       \
  } while (false)

int32_t Describe(uint32_t index, abi::Info* info, Status* status) {
  if (const int32_t code = CheckDriver(status); code != abi::kOk) return code;
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, static_cast<int>(index));
  if (error != cudaSuccess) return Fail(abi::kUnavailable, status, "CUDA: %s", cudaGetErrorString(error));
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->major = static_cast<uint32_t>(properties.major);
  info->minor = static_cast<uint32_t>(properties.minor);
  info->num_multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
#if defined(NEXTSCALE_CUDA_90A)
  info->has_wgmma = properties.major == 9;
#endif
  info->total_bytes = properties.totalGlobalMem;
  int version = 0;
  (void)cudaDriverGetVersion(&version);
  info->driver_version = static_cast<uint32_t>(version);
  (void)cudaRuntimeGetVersion(&version);
  info->runtime_version = static_cast<uint32_t>(version);
  // Free memory is known inside a context only.
  const Driver& driver = TheDriver();
  int ordinal = 0;
  OpenDevice device;
  if (driver.device_get(&ordinal, static_cast<int>(index)) == 0 &&
      driver.context_create(&device.context, 0, ordinal) == 0) {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) == cudaSuccess) info->free_bytes = free;
  }
  return abi::kOk;
}

int32_t Open(uint32_t index, void** out, Status* status) {
  if (const int32_t code = CheckDriver(status); code != abi::kOk) return code;
  const Driver& driver = TheDriver();
  std::unique_ptr<OpenDevice> device(new (std::nothrow) OpenDevice);
  if (device == nullptr) return Fail(abi::kOutOfMemory, status, "no memory for a device's state");
  int ordinal = 0;
  if (const int code = driver.device_get(&ordinal, static_cast<int>(index)); code != 0) {
    return Fail(abi::kUnavailable, status, "cuda:%u cannot be used: cuDeviceGet failed with %d", index, code);
  }
  constexpr unsigned kBlockingSync = 4;  // a thread that waits sleeps
  if (const int code = driver.context_create(&device->context, kBlockingSync, ordinal); code != 0) {
    const int32_t kind = code == 2 ? abi::kOutOfMemory : abi::kUnavailable;
    return Fail(kind, status, "cuda:%u gives no context: cuCtxCreate failed with %d", index, code);
  }
  NS_TRY(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking), "making a stream");
  const char* const check = std::getenv("NEXTSCALE_CUDA_CHECK");
  device->checked = check != nullptr && std::strcmp(check, "1") == 0;
  *out = device.release();
  return abi::kOk;
}

void Close(void* device) { std::unique_ptr<OpenDevice>(static_cast<OpenDevice*>(device)); }

// ------------------------------------------------------------------ memory

int32_t Allocate(void* opaque, size_t bytes, void** memory, Status* status) {
  NS_ENTER(*static_cast<OpenDevice*>(opaque));
  const cudaError_t error = cudaMalloc(memory, bytes);
  if (error == cudaSuccess) return abi::kOk;
  size_t free = 0, total = 0;
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free, &total);
    return Fail(abi::kOutOfMemory, status, "CUDA: %zu bytes could not be had; the device has %zu free of %zu", bytes,
                free, total);
  }
  return FailCuda(error, status, "cudaMalloc");
}
void Release(void* opaque, void* memory) {
  Status ignored;
  if (Enter(*static_cast<OpenDevice*>(opaque), &ignored) == abi::kOk) (void)cudaFree(memory);
}
int32_t AllocatePinned(void* opaque, size_t bytes, void** memory, Status* status) {
  NS_ENTER(*static_cast<OpenDevice*>(opaque));
  NS_TRY(cudaHostAlloc(memory, bytes, cudaHostAllocDefault), "pinning host memory");
  return abi::kOk;
}
void ReleasePinned(void* opaque, void* memory) {
  Status ignored;
  if (Enter(*static_cast<OpenDevice*>(opaque), &ignored) == abi::kOk) (void)cudaFreeHost(memory);
}
int32_t Copy(void* opaque, void* to, const void* from, size_t bytes, Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  NS_ENTER(device);
  NS_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, device.stream), "copying");
  return abi::kOk;
}
int32_t Clear(void* opaque, void* at, size_t bytes, Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  NS_ENTER(device);
  NS_TRY(cudaMemsetAsync(at, 0, bytes, device.stream), "clearing memory");
  return abi::kOk;
}

// ------------------------------------------------------------------ launches

int32_t LaunchOne(OpenDevice& device, const abi::LaunchRecord& launch, const unsigned char* args, Status* status) {
  const KernelId id = static_cast<KernelId>(launch.kernel);
  const void* function = launch.kernel < kNumKernels ? LinearFunction(id) : nullptr;
  if (function == nullptr && launch.kernel < kNumKernels) function = OtherFunction(id);
  if (function == nullptr)
    return Fail(abi::kLost, status, "CUDA: there is no kernel %u (of %s)", launch.kernel, launch.op);
  constexpr uint32_t kAlways = 48 << 10;  // shared memory that needs no permission
  cudaError_t error = cudaSuccess;
  if (launch.shared_bytes > kAlways && launch.shared_bytes > device.shared_bytes[launch.kernel]) {
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(launch.shared_bytes));
    if (error == cudaSuccess) device.shared_bytes[launch.kernel] = launch.shared_bytes;
  }
  void* pointers[] = {const_cast<unsigned char*>(args + launch.args_offset)};
  if (error == cudaSuccess) {
    error = cudaLaunchKernel(function, dim3(launch.x, launch.y, launch.z), dim3(launch.threads), pointers,
                             launch.shared_bytes, device.stream);
  }
  if (error == cudaSuccess) return abi::kOk;
  (void)cudaGetLastError();
  return Fail(abi::kLost, status, "CUDA: launch of kernel %s of %s: %s (%s)", KernelName(id), launch.op,
              cudaGetErrorString(error), cudaGetErrorName(error));
}

void Queued(OpenDevice& device, const char* first, const char* last, uint32_t count) {
  if (device.num_queued == 0) device.first_op = first;
  device.last_op = last;
  device.num_queued += count;
}

int32_t Run(void* opaque, const abi::LaunchRecord* launches, uint32_t count, const void* args, Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  NS_ENTER(device);
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t code = LaunchOne(device, launches[i], static_cast<const unsigned char*>(args), status);
    if (code != abi::kOk) return code;
    if (!device.checked) continue;
    const cudaError_t error = cudaStreamSynchronize(device.stream);
    if (error != cudaSuccess) {
      return Fail(abi::kLost, status, "CUDA: kernel %s of %s: %s (%s)",
                  KernelName(static_cast<KernelId>(launches[i].kernel)), launches[i].op, cudaGetErrorString(error),
                  cudaGetErrorName(error));
    }
  }
  if (count != 0) Queued(device, launches[0].op, launches[count - 1].op, count);
  return abi::kOk;
}

// ------------------------------------------------------------------ graphs

// A graph, or, where each launch is to be looked at, the launches themselves.
struct OpenGraph {
  cudaGraphExec_t exec = nullptr;
  std::vector<abi::LaunchRecord> launches;
  std::vector<unsigned char> args;
};

size_t BytesOfArgs(const abi::LaunchRecord* launches, uint32_t count) {
  size_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t end = size_t{launches[i].args_offset} + launches[i].args_bytes;
    bytes = end > bytes ? end : bytes;
  }
  return bytes;
}

int32_t MakeGraph(void* opaque, const abi::LaunchRecord* launches, uint32_t count, const void* args, void** out,
                  Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  NS_ENTER(device);
  std::unique_ptr<OpenGraph> graph;
  try {
    graph = std::make_unique<OpenGraph>();
    graph->launches.assign(launches, launches + count);
    const auto* bytes = static_cast<const unsigned char*>(args);
    graph->args.assign(bytes, bytes + BytesOfArgs(launches, count));
  } catch (const std::bad_alloc&) {
    return Fail(abi::kOutOfMemory, status, "no memory for a graph of %u launches", count);
  }
  if (!device.checked) {
    NS_TRY(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeThreadLocal), "beginning a graph");
    int32_t code = abi::kOk;
    for (uint32_t i = 0; i < count && code == abi::kOk; ++i) {
      code = LaunchOne(device, graph->launches[i], graph->args.data(), status);
    }
    cudaGraph_t captured = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(device.stream, &captured);
    if (code != abi::kOk || ended != cudaSuccess) {
      if (captured != nullptr) (void)cudaGraphDestroy(captured);
      return code != abi::kOk ? code : FailCuda(ended, status, "ending a graph");
    }
    const cudaError_t made = cudaGraphInstantiate(&graph->exec, captured, 0);
    (void)cudaGraphDestroy(captured);
    if (made != cudaSuccess) return FailCuda(made, status, "making a graph");
  }
  *out = graph.release();
  return abi::kOk;
}

int32_t RunGraph(void* opaque, void* opaque_graph, Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  const OpenGraph& graph = *static_cast<OpenGraph*>(opaque_graph);
  const auto count = static_cast<uint32_t>(graph.launches.size());
  if (graph.exec == nullptr) return Run(opaque, graph.launches.data(), count, graph.args.data(), status);
  NS_ENTER(device);
  NS_TRY(cudaGraphLaunch(graph.exec, device.stream), "launching a graph");
  Queued(device, graph.launches.front().op, graph.launches.back().op, count);
  return abi::kOk;
}

void ReleaseGraph(void* opaque, void* opaque_graph) {
  const std::unique_ptr<OpenGraph> graph(static_cast<OpenGraph*>(opaque_graph));
  Status ignored;
  if (graph->exec != nullptr && Enter(*static_cast<OpenDevice*>(opaque), &ignored) == abi::kOk) {
    (void)cudaGraphExecDestroy(graph->exec);
  }
}

int32_t Wait(void* opaque, Status* status) {
  OpenDevice& device = *static_cast<OpenDevice*>(opaque);
  NS_ENTER(device);
  const cudaError_t error = cudaStreamSynchronize(device.stream);
  if (error != cudaSuccess) {
    return Fail(abi::kLost, status,
                "CUDA: one of %u kernels, from %s to %s, failed: %s (%s); NEXTSCALE_CUDA_CHECK=1 says which",
                device.num_queued, device.first_op == nullptr ? "-" : device.first_op,
                device.last_op == nullptr ? "-" : device.last_op, cudaGetErrorString(error), cudaGetErrorName(error));
  }
  device.num_queued = 0;
  return abi::kOk;
}

constexpr abi::Functions kFunctions = {abi::kVersion,
                                       sizeof(abi::Functions),
                                       abi::Fingerprint(),
                                       Count,
                                       Describe,
                                       Open,
                                       Close,
                                       Allocate,
                                       Release,
                                       AllocatePinned,
                                       ReleasePinned,
                                       Copy,
                                       Clear,
                                       Run,
                                       MakeGraph,
                                       RunGraph,
                                       ReleaseGraph,
                                       Wait};

}  // namespace
}  // namespace nextscale::cuda

extern "C" __attribute__((visibility("default"))) const nextscale::cuda::abi::Functions* nextscale_cuda_functions() {
  return &nextscale::cuda::kFunctions;
}
