// Which graph runs a list of launches. The list is its own key: kernels, shapes and every byte of the arguments, so a
// graph can never be stale. A list runs plainly the first time, becomes a graph the second time, and is that graph from
// then on. A switch of depth is nothing special: another list.
//
// When the cache is full, a new list does not simply push out the graph that was used longest ago: a round of lists
// that is a little longer than the cache would then find none of its own. A graph that was used since it was last
// looked at stays (its second chance), and the new list runs plainly this time. So of a round that is too long as many
// graphs as there is room for are used again and again, and none is made; graphs that nobody uses any more go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "native/backend/cuda/host/device.h"

namespace nextscale::cuda {

class GraphCache {
 public:
  // Lists of fewer launches are not worth a graph.
  static constexpr size_t kFewLaunches = 4;

  explicit GraphCache(Device& device, size_t max_graphs = 96) : device_(device), max_graphs_(max_graphs) {}

  void Run(const LaunchList& list);

  struct Counts {
    size_t plain = 0, made = 0, reused = 0, dropped = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Entry {
    LaunchList list;
    uint64_t hash;
    std::unique_ptr<Graph> graph;
    bool used = true;  // since it was last looked at
  };
  using Entries = std::list<Entry>;  // latest use first

  Entries::iterator Find(const LaunchList& list, uint64_t hash);
  // Whether there is room for one more graph, or was made.
  bool MakeRoom();

  Device& device_;
  size_t max_graphs_;
  Entries entries_;
  std::unordered_multimap<uint64_t, Entries::iterator> by_hash_;
  std::unordered_set<uint64_t> seen_;  // hashes of lists that ran once
  Counts counts_;
};

uint64_t HashOf(const LaunchList& list);
bool Equal(const LaunchList& a, const LaunchList& b);

}  // namespace nextscale::cuda
