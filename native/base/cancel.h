// Whether a piece of work is still wanted: set by any thread, polled by the one that works.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "native/base/error.h"

namespace nextscale {

class CancelFlag {
 public:
  CancelFlag() = default;
  // Counts as set when `also` is.
  explicit CancelFlag(std::shared_ptr<const CancelFlag> also) : also_(std::move(also)) {}
  CancelFlag(const CancelFlag&) = delete;
  CancelFlag& operator=(const CancelFlag&) = delete;

  void Set() { set_.store(true, std::memory_order_relaxed); }
  bool IsSet() const { return set_.load(std::memory_order_relaxed) || (also_ != nullptr && also_->IsSet()); }
  // Throws Error(kAborted) when set.
  void Check() const { NS_REQUIRE(!IsSet(), ErrorCode::kAborted, "cancelled"); }

 private:
  std::atomic<bool> set_{false};
  const std::shared_ptr<const CancelFlag> also_;
};

}  // namespace nextscale
