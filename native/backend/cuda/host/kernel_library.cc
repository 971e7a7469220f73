#include "native/backend/cuda/host/kernel_library.h"

#include <utility>

#include "native/backend/cuda/library/abi.h"
#include "native/base/error.h"

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace nextscale::cuda {
namespace {

using abi::Functions;

void Check(int32_t code, const abi::Status& status) {
  if (code == abi::kOk) return;
  const ErrorCode error = code == abi::kOutOfMemory   ? ErrorCode::kOutOfMemory
                          : code == abi::kUnavailable ? ErrorCode::kDeviceUnavailable
                                                      : ErrorCode::kDeviceLost;
  throw Error(error, status.message);
}

// Calls a function of the table and throws what it says.
template <typename Function, typename... Args>
void Call(Function* function, Args... args) {
  abi::Status status;
  status.message[0] = 0;
  Check(function(args..., &status), status);
}

class LibraryDevice final : public Device {
 public:
  LibraryDevice(std::shared_ptr<const Library> library, const Functions& functions, DeviceInfo info)
      : library_(std::move(library)), functions_(functions), info_(std::move(info)) {
    Call(functions_.open, static_cast<uint32_t>(info_.index), &device_);
  }
  ~LibraryDevice() override { functions_.close(device_); }

  const DeviceInfo& info() const override { return info_; }

  void* Allocate(size_t bytes, const char* what) override {
    void* memory = nullptr;
    try {
      Call(functions_.allocate, device_, bytes, &memory);
    } catch (const Error& error) {
      throw Error(error.code(), Message(error.what(), ", for ", what));
    }
    return memory;
  }
  void Free(void* memory) noexcept override { functions_.release(device_, memory); }
  void* AllocatePinned(size_t bytes) override {
    void* memory = nullptr;
    Call(functions_.allocate_pinned, device_, bytes, &memory);
    return memory;
  }
  void FreePinned(void* memory) noexcept override { functions_.release_pinned(device_, memory); }

  void CopyIn(void* to, const void* pinned, size_t bytes) override { CopyWithin(to, pinned, bytes); }
  void CopyOut(void* pinned, const void* from, size_t bytes) override { CopyWithin(pinned, from, bytes); }
  void CopyWithin(void* to, const void* from, size_t bytes) override {
    Call(functions_.copy, device_, to, from, bytes);
  }
  void Clear(void* at, size_t bytes) override { Call(functions_.clear, device_, at, bytes); }

  void Run(const LaunchList& list) override {
    Translate(list);
    Call(functions_.run, device_, const_cast<const abi::LaunchRecord*>(records_.data()), NumRecords(),
         static_cast<const void*>(list.args().data()));
  }
  std::unique_ptr<Graph> MakeGraph(const LaunchList& list) override {
    Translate(list);
    void* graph = nullptr;
    Call(functions_.make_graph, device_, const_cast<const abi::LaunchRecord*>(records_.data()), NumRecords(),
         static_cast<const void*>(list.args().data()), &graph);
    return std::make_unique<LibraryGraph>(*this, graph);
  }
  void RunGraph(Graph& graph) override {
    Call(functions_.run_graph, device_, static_cast<LibraryGraph&>(graph).graph());
  }
  void Wait() override { Call(functions_.wait, device_); }

 private:
  class LibraryGraph final : public Graph {
   public:
    LibraryGraph(LibraryDevice& device, void* graph) : device_(device), graph_(graph) {}
    ~LibraryGraph() override { device_.functions_.release_graph(device_.device_, graph_); }
    void* graph() const { return graph_; }

   private:
    LibraryDevice& device_;
    void* graph_;
  };

  void Translate(const LaunchList& list) {
    records_.clear();
    for (const Launch& launch : list.launches()) {
      const LaunchShape& shape = launch.shape;
      records_.push_back({static_cast<uint32_t>(launch.kernel), shape.x, shape.y, shape.z, shape.threads,
                          shape.shared_bytes, launch.args_offset, launch.args_bytes, launch.op});
    }
  }
  uint32_t NumRecords() const { return static_cast<uint32_t>(records_.size()); }

  std::shared_ptr<const Library> library_;
  const Functions& functions_;
  DeviceInfo info_;
  void* device_ = nullptr;
  std::vector<abi::LaunchRecord> records_;  // scratch
};

#if defined(__linux__)

class LoadedLibrary final : public Library {
 public:
  // NODELETE: what the CUDA runtime has registered (ends of threads, of the process) must outlive the handle.
  explicit LoadedLibrary(const std::string& path)
      : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
    if (handle_ == nullptr) {
      const char* const reason = dlerror();
      throw Error(ErrorCode::kDeviceUnavailable, Message("the CUDA library cannot be loaded: ", reason));
    }
    const auto get = reinterpret_cast<const Functions* (*)()>(dlsym(handle_.get(), abi::kSymbol));
    NS_REQUIRE(get != nullptr, ErrorCode::kDeviceUnavailable, path, " is not a CUDA library of nextscale");
    functions_ = get();
    NS_REQUIRE(functions_->version == abi::kVersion && functions_->bytes == sizeof(Functions) &&
                   functions_->fingerprint == abi::Fingerprint(),
               ErrorCode::kDeviceUnavailable, path, " belongs to another build of nextscale: version ",
               functions_->version, ", expected ", abi::kVersion, " with the same kernels");
  }

  std::vector<DeviceInfo> Devices() override {
    uint32_t count = 0;
    Call(functions_->count, &count);
    std::vector<DeviceInfo> devices;
    for (uint32_t index = 0; index < count; ++index) {
      abi::Info found = {};
      Call(functions_->describe, index, &found);
      DeviceInfo info;
      info.index = index;
      info.name = found.name;
      info.major = found.major;
      info.minor = found.minor;
      info.num_multiprocessors = found.num_multiprocessors;
      info.has_wgmma = found.has_wgmma != 0;
      info.total_bytes = found.total_bytes;
      info.free_bytes = found.free_bytes;
      info.driver_version = found.driver_version;
      info.runtime_version = found.runtime_version;
      devices.push_back(std::move(info));
    }
    return devices;
  }

  std::unique_ptr<Device> OpenDevice(size_t index) override {
    const std::vector<DeviceInfo> devices = Devices();
    NS_REQUIRE(index < devices.size(), ErrorCode::kDeviceUnavailable, "there is no cuda:", index, "; found ",
               devices.size(), devices.size() == 1 ? " device" : " devices");
    const DeviceInfo& info = devices[index];
    NS_REQUIRE(info.major >= 8, ErrorCode::kDeviceUnavailable, info.name, " has compute capability ", info.major, ".",
               info.minor, ", expected 8.0 or later");
    return std::make_unique<LibraryDevice>(shared_from_this(), *functions_, info);
  }

 private:
  struct Close {
    void operator()(void* handle) const { dlclose(handle); }
  };
  std::unique_ptr<void, Close> handle_;
  const Functions* functions_ = nullptr;
};

#endif

}  // namespace

std::shared_ptr<Library> Library::Open(const std::string& path) {
#if defined(__linux__)
  return std::make_shared<LoadedLibrary>(path);
#else
  throw Error(ErrorCode::kDeviceUnavailable, Message(path, ": CUDA is supported on Linux only"));
#endif
}

}  // namespace nextscale::cuda
