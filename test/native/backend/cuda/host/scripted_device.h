// A device that runs nothing: memory is the host's, and what is queued happens when Wait is called, as late as a real
// device may do it. For tests of what lies between the ops and a device.
#pragma once

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "native/backend/cuda/host/device.h"
#include "native/base/error.h"

namespace nextscale::cuda {

// What a test sets and looks at; outlives the device.
struct Script {
  std::function<void(const Launch&, const std::byte* args)> on_launch;  // when the queue is worked off
  std::vector<std::string> calls;
  size_t limit_bytes = size_t{1} << 40, bytes = 0;
  size_t num_allocations = 0, num_graphs = 0, num_waits = 0;
  bool refuses_graphs = false;
  std::string lost;  // not empty: what Wait throws
};

class ScriptedDevice final : public Device {
 public:
  explicit ScriptedDevice(std::shared_ptr<Script> script) : script_(std::move(script)) {
    info_.name = "scripted";
    info_.major = 9;
    info_.num_multiprocessors = 4;
    info_.total_bytes = size_t{1} << 40;
  }
  ~ScriptedDevice() override {
    for (const auto& [memory, bytes] : blocks_) std::free(memory);
  }
  ScriptedDevice(const ScriptedDevice&) = delete;
  ScriptedDevice& operator=(const ScriptedDevice&) = delete;

  const DeviceInfo& info() const override { return info_; }
  void* Allocate(size_t bytes, const char* what) override {
    std::lock_guard lock(mutex_);
    NS_REQUIRE(bytes <= script_->limit_bytes - script_->bytes, ErrorCode::kOutOfMemory, "no ", bytes, " bytes for ",
               what);
    ++script_->num_allocations;
    void* const memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, 0xFF, bytes);
    blocks_[memory] = bytes;
    script_->bytes += bytes;
    return memory;
  }
  void Free(void* memory) noexcept override {
    std::lock_guard lock(mutex_);
    const auto found = blocks_.find(memory);
    if (found == blocks_.end()) return;
    script_->bytes -= found->second;
    blocks_.erase(found);
    std::free(memory);
  }
  void* AllocatePinned(size_t bytes) override { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
  void FreePinned(void* memory) noexcept override { std::free(memory); }

  void CopyIn(void* to, const void* pinned, size_t bytes) override { Copy("in", to, pinned, bytes); }
  void CopyOut(void* pinned, const void* from, size_t bytes) override { Copy("out", pinned, from, bytes); }
  void CopyWithin(void* to, const void* from, size_t bytes) override { Copy("within", to, from, bytes); }
  void Clear(void* at, size_t bytes) override {
    queue_.push_back([=] { std::memset(at, 0, bytes); });
  }
  void Run(const LaunchList& list) override {
    script_->calls.push_back("run " + std::to_string(list.launches().size()));
    Queue(list);
  }
  std::unique_ptr<Graph> MakeGraph(const LaunchList& list) override {
    NS_REQUIRE(!script_->refuses_graphs, ErrorCode::kOutOfMemory, "no room for a graph");
    ++script_->num_graphs;
    return std::make_unique<ScriptedGraph>(list);
  }
  void RunGraph(Graph& graph) override {
    const LaunchList& list = static_cast<ScriptedGraph&>(graph).list;
    script_->calls.push_back("graph " + std::to_string(list.launches().size()));
    Queue(list);
  }
  void Wait() override {
    ++script_->num_waits;
    for (; !queue_.empty(); queue_.pop_front()) queue_.front()();
    if (!script_->lost.empty()) throw Error(ErrorCode::kDeviceLost, script_->lost);
  }

 private:
  struct ScriptedGraph final : Graph {
    explicit ScriptedGraph(const LaunchList& its_list) : list(its_list) {}
    LaunchList list;
  };
  void Copy(const char* what, void* to, const void* from, size_t bytes) {
    script_->calls.push_back(what + (" " + std::to_string(bytes)));
    queue_.push_back([=] { std::memmove(to, from, bytes); });
  }
  void Queue(const LaunchList& list) {
    queue_.push_back([this, list] {
      for (const Launch& launch : list.launches()) {
        if (script_->on_launch) script_->on_launch(launch, list.args().data() + launch.args_offset);
      }
    });
  }

  std::shared_ptr<Script> script_;
  DeviceInfo info_;
  std::mutex mutex_;  // of memory
  std::map<void*, size_t> blocks_;
  std::deque<std::function<void()>> queue_;
};

}  // namespace nextscale::cuda
