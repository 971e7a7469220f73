// Exceptions become results here, at the edge of the engine thread, and callbacks are called here and nowhere else.
#pragma once

#include <string>
#include <utility>

#include "native/generate/engine.h"

namespace nextscale {

EndResult Failed(ErrorCode code, std::string message);

// A refusal of the pool with its figures, for calls that answer by throwing.
class PoolError : public Error {
 public:
  explicit PoolError(EndResult result) : Error(result.code, result.message), result_(std::move(result)) {}
  const EndResult& result() const { return result_; }

 private:
  EndResult result_;
};

// For use inside a catch block: what the exception means to a listener.
EndResult FromCurrentException() noexcept;

// Calls a callback; what it throws is dropped, since there is nobody left to tell.
template <typename Callback, typename Result>
void Tell(const Callback& callback, Result&& result) noexcept {
  try {
    if (callback) callback(std::forward<Result>(result));
  } catch (...) {
  }
}

}  // namespace nextscale
