// Pinned host memory on its way to and from a device.
//
// Tables: appended to a host area that a region of the device mirrors, so an address on the device is known at once,
// and what was appended since the last Push goes over in one copy. Uploads and downloads pass through pinned areas of
// their own. Places are used again after Restart only, when the device has seen all of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "native/backend/cuda/host/device.h"

namespace nextscale::cuda {

// Pinned memory of a device, owned.
class PinnedArea {
 public:
  PinnedArea(Device& device, size_t bytes)
      : device_(device), data_(static_cast<std::byte*>(device.AllocatePinned(bytes))), bytes_(bytes) {}
  ~PinnedArea() { device_.FreePinned(data_); }
  PinnedArea(const PinnedArea&) = delete;
  PinnedArea& operator=(const PinnedArea&) = delete;

  size_t room() const { return bytes_ - used_; }
  size_t bytes() const { return bytes_; }
  size_t used() const { return used_; }
  std::byte* data() const { return data_; }
  // At least 16-byte aligned. The caller has looked at room().
  std::byte* Take(size_t bytes) {
    std::byte* const at = data_ + used_;
    used_ = std::min(bytes_, (used_ + bytes + kAlign - 1) / kAlign * kAlign);
    return at;
  }
  void Restart() { used_ = 0; }

  static constexpr size_t kAlign = 64;

 private:
  Device& device_;
  std::byte* data_;
  size_t bytes_, used_ = 0;
};

// Tables of launches.
class TableArea {
 public:
  TableArea(Device& device, size_t bytes)
      : device_(device), host_(device, bytes), mirror_(static_cast<std::byte*>(device.Allocate(bytes, "tables"))) {}
  ~TableArea() { device_.Free(mirror_); }
  TableArea(const TableArea&) = delete;
  TableArea& operator=(const TableArea&) = delete;

  size_t bytes() const { return host_.bytes(); }
  // What appending these sizes takes at most.
  static size_t Needed(std::initializer_list<size_t> sizes) {
    size_t needed = 0;
    for (size_t size : sizes) needed += size + PinnedArea::kAlign;
    return needed;
  }
  bool HasRoom(size_t bytes) const { return bytes <= host_.room(); }

  // The address on the device; there after the next Push.
  template <typename T>
  const T* Append(std::span<const T> values) {
    std::byte* const at = host_.Take(values.size_bytes());
    if (!values.empty()) std::memcpy(at, values.data(), values.size_bytes());
    return reinterpret_cast<const T*>(mirror_ + (at - host_.data()));
  }
  void Push() {
    if (pushed_ == host_.used()) return;
    device_.CopyIn(mirror_ + pushed_, host_.data() + pushed_, host_.used() - pushed_);
    pushed_ = host_.used();
  }
  void Restart() {
    host_.Restart();
    pushed_ = 0;
  }

 private:
  Device& device_;
  PinnedArea host_;
  std::byte* mirror_;
  size_t pushed_ = 0;
};

// Copies between ordinary host memory and the device, in pieces when they are large. `wait` must empty the queue and
// then call Deliver and Restart.
class Transfers {
 public:
  Transfers(Device& device, size_t bytes) : device_(device), up_(device, bytes), down_(device, bytes) {}

  template <typename Wait>
  void Upload(void* to, const void* from, size_t bytes, const Wait& wait) {
    for (size_t done = 0; done < bytes;) {
      if (up_.room() == 0) wait();
      const size_t piece = std::min(bytes - done, up_.room());
      std::byte* const pinned = up_.Take(piece);
      std::memcpy(pinned, static_cast<const std::byte*>(from) + done, piece);
      device_.CopyIn(static_cast<std::byte*>(to) + done, pinned, piece);
      done += piece;
    }
  }
  template <typename Wait>
  void Download(void* to, const void* from, size_t bytes, const Wait& wait) {
    for (size_t done = 0; done < bytes;) {
      if (down_.room() == 0) wait();
      const size_t piece = std::min(bytes - done, down_.room());
      std::byte* const pinned = down_.Take(piece);
      device_.CopyOut(pinned, static_cast<const std::byte*>(from) + done, piece);
      pending_.push_back({static_cast<std::byte*>(to) + done, pinned, piece});
      done += piece;
    }
  }
  // The queue is empty: downloads reach their targets.
  void Deliver() {
    for (const Piece& piece : pending_) std::memcpy(piece.to, piece.pinned, piece.bytes);
    Restart();
  }
  // Forgets what was on its way.
  void Restart() {
    pending_.clear();
    up_.Restart();
    down_.Restart();
  }

 private:
  struct Piece {
    std::byte* to;
    const std::byte* pinned;
    size_t bytes;
  };
  Device& device_;
  PinnedArea up_, down_;
  std::vector<Piece> pending_;
};

}  // namespace nextscale::cuda
