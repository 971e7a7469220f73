// How a piece of work on another thread ended. Exceptions become outcomes at the edge of a thread, and callbacks are
// called here and nowhere else.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "native/base/error.h"

namespace nextscale {

struct Outcome {
  bool ok = true;
  ErrorCode code = ErrorCode::kInternal;  // unless ok
  std::string message;
};

// What hears of it: exactly once, on the thread that did the work.
using Done = std::function<void(Outcome)>;

Outcome Failed(ErrorCode code, std::string message);

// For use inside a catch block: what the exception means to whoever waits.
Outcome FromCurrentException() noexcept;

// Calls a callback; what it throws is dropped, since there is nobody left to tell.
template <typename Callback, typename Result>
void Tell(const Callback& callback, Result&& result) noexcept {
  try {
    if (callback) callback(std::forward<Result>(result));
  } catch (...) {
  }
}

}  // namespace nextscale
