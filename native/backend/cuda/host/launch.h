// What is to run on a device, as data: a list of launches with their arguments. Two steps that do the same have equal
// lists, so a list is its own key to the graph that was made of it (graph_cache.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace nextscale::cuda {

enum class KernelId : uint32_t;  // kernel_list.h

struct LaunchShape {
  uint32_t x = 1, y = 1, z = 1;  // blocks
  uint32_t threads = 0, shared_bytes = 0;
};

struct Launch {
  KernelId kernel{};
  LaunchShape shape;
  uint32_t args_offset = 0, args_bytes = 0;  // in the list's bytes
  const char* op = "";                       // for messages: which op of the model wanted it
};

class LaunchList {
 public:
  // `Args` without padding that holds garbage: zero it first. Launches of no blocks are left out.
  template <typename Args>
  void Add(KernelId kernel, const LaunchShape& shape, const Args& args, const char* op) {
    static_assert(std::is_trivially_copyable_v<Args>);
    if (shape.x == 0 || shape.y == 0 || shape.z == 0) return;
    const size_t offset = (args_.size() + 15) / 16 * 16;
    args_.resize(offset + sizeof(Args));
    std::memcpy(args_.data() + offset, &args, sizeof(Args));
    launches_.push_back({kernel, shape, static_cast<uint32_t>(offset), static_cast<uint32_t>(sizeof(Args)), op});
  }
  void Clear() {
    launches_.clear();
    args_.clear();
  }

  std::span<const Launch> launches() const { return launches_; }
  std::span<const std::byte> args() const { return args_; }
  bool empty() const { return launches_.empty(); }

 private:
  std::vector<Launch> launches_;
  std::vector<std::byte> args_;
};

}  // namespace nextscale::cuda
