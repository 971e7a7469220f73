#include "native/backend/cuda/host/graph_cache.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "native/base/error.h"

namespace nextscale::cuda {
namespace {

constexpr size_t kMaxSeen = 4096;  // lists that never come again must not pile up

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

bool SameLaunch(const Launch& a, const Launch& b) {
  const LaunchShape &s = a.shape, &t = b.shape;
  return a.kernel == b.kernel && s.x == t.x && s.y == t.y && s.z == t.z && s.threads == t.threads &&
         s.shared_bytes == t.shared_bytes && a.args_offset == b.args_offset && a.args_bytes == b.args_bytes;
}

}  // namespace

uint64_t HashOf(const LaunchList& list) {
  uint64_t hash = list.launches().size();
  for (const Launch& launch : list.launches()) {
    const LaunchShape& shape = launch.shape;
    hash = Mix(hash, static_cast<uint64_t>(launch.kernel) << 32 | shape.threads);
    hash = Mix(hash, static_cast<uint64_t>(shape.x) << 32 | (shape.y << 16 ^ shape.z));
    hash = Mix(hash, static_cast<uint64_t>(shape.shared_bytes) << 32 | launch.args_offset);
  }
  const std::span<const std::byte> args = list.args();
  for (size_t at = 0; at < args.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, args.data() + at, std::min(sizeof word, args.size() - at));
    hash = Mix(hash, word);
  }
  return hash;
}

bool Equal(const LaunchList& a, const LaunchList& b) {
  return std::equal(a.launches().begin(), a.launches().end(), b.launches().begin(), b.launches().end(), SameLaunch) &&
         a.args().size() == b.args().size() && std::memcmp(a.args().data(), b.args().data(), a.args().size()) == 0;
}

GraphCache::Entries::iterator GraphCache::Find(const LaunchList& list, uint64_t hash) {
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto at = first; at != last; ++at) {
    if (Equal(at->second->list, list)) return at->second;
  }
  return entries_.end();
}

bool GraphCache::MakeRoom() {
  if (entries_.size() < max_graphs_) return true;
  const Entries::iterator oldest = std::prev(entries_.end());
  if (std::exchange(oldest->used, false)) {
    entries_.splice(entries_.begin(), entries_, oldest);
    return false;
  }
  const auto [first, last] = by_hash_.equal_range(oldest->hash);
  by_hash_.erase(std::find_if(first, last, [&](const auto& place) { return place.second == oldest; }));
  entries_.erase(oldest);
  ++counts_.dropped;
  return true;
}

void GraphCache::Run(const LaunchList& list) {
  if (list.empty()) return;
  if (list.launches().size() < kFewLaunches) {
    ++counts_.plain;
    return device_.Run(list);
  }
  const uint64_t hash = HashOf(list);
  const Entries::iterator found = Find(list, hash);
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    found->used = true;
    ++counts_.reused;
    return device_.RunGraph(*found->graph);
  }
  if (seen_.insert(hash).second) {
    if (seen_.size() > kMaxSeen) seen_ = {hash};
    ++counts_.plain;
    return device_.Run(list);
  }
  if (!MakeRoom()) {
    ++counts_.plain;
    return device_.Run(list);
  }
  std::unique_ptr<Graph> graph;
  try {
    graph = device_.MakeGraph(list);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kOutOfMemory) throw;
    counts_.dropped += entries_.size();  // a graph is a convenience: they make room, and the list runs without
    by_hash_.clear();
    entries_.clear();
    ++counts_.plain;
    return device_.Run(list);
  }
  entries_.push_front({list, hash, std::move(graph)});
  by_hash_.emplace(hash, entries_.begin());
  ++counts_.made;
  device_.RunGraph(*entries_.front().graph);
}

}  // namespace nextscale::cuda
