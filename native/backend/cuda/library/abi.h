// The boundary between the core and the library of kernels: C, so that compilers of the two may differ. One symbol,
// nextscale_cuda_functions, gives a table; the core refuses one of another version or with other kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "native/backend/cuda/kernels/calls.h"
#include "native/backend/cuda/kernels/kernel_list.h"

namespace nextscale::cuda::abi {

inline constexpr uint32_t kVersion = 3;
inline constexpr const char* kSymbol = "nextscale_cuda_functions";

// Names and argument sizes of all kernels.
constexpr uint64_t Fingerprint() {
  uint64_t hash = 0xCBF29CE484222325u;
  const auto add = [&hash](const char* name, size_t bytes) {
    for (; *name != 0; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001B3u;
    hash = (hash ^ bytes) * 0x100000001B3u;
  };
#define NS_ADD(name, Args, threads, blocks, function) add(#name, sizeof(Args));
  NS_CUDA_KERNELS(NS_ADD)
#undef NS_ADD
  return hash;
}

enum Code : int32_t { kOk = 0, kOutOfMemory, kUnavailable, kLost };

// What every function fills when it does not return kOk.
struct Status {
  char message[1024];
};

struct Info {
  char name[256];
  uint32_t major, minor, num_multiprocessors, driver_version, runtime_version;
  uint32_t has_wgmma;  // the chip takes it, and the library was compiled for it
  uint64_t total_bytes, free_bytes;
};

struct LaunchRecord {
  uint32_t kernel, x, y, z, threads, shared_bytes, args_offset, args_bytes;
  const char* op;
};

// `device` is what open gave; calls for one device come one at a time, but release.
struct Functions {
  uint32_t version, bytes;
  uint64_t fingerprint;
  int32_t (*count)(uint32_t* count, Status*);
  int32_t (*describe)(uint32_t index, Info*, Status*);
  int32_t (*open)(uint32_t index, void** device, Status*);
  void (*close)(void* device);
  int32_t (*allocate)(void* device, size_t bytes, void** memory, Status*);
  void (*release)(void* device, void* memory);
  int32_t (*allocate_pinned)(void* device, size_t bytes, void** memory, Status*);
  void (*release_pinned)(void* device, void* memory);
  int32_t (*copy)(void* device, void* to, const void* from, size_t bytes, Status*);
  int32_t (*clear)(void* device, void* at, size_t bytes, Status*);
  int32_t (*run)(void* device, const LaunchRecord* launches, uint32_t count, const void* args, Status*);
  int32_t (*make_graph)(void* device, const LaunchRecord* launches, uint32_t count, const void* args, void** graph,
                        Status*);
  int32_t (*run_graph)(void* device, void* graph, Status*);
  void (*release_graph)(void* device, void* graph);
  int32_t (*wait)(void* device, Status*);
};

}  // namespace nextscale::cuda::abi
