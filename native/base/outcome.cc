#include "native/base/outcome.h"

#include <exception>
#include <new>
#include <system_error>

namespace nextscale {

Outcome Failed(ErrorCode code, std::string message) {
  return {.ok = false, .code = code, .message = std::move(message)};
}

Outcome FromCurrentException() noexcept {
  Outcome outcome;
  outcome.ok = false;
  try {
    try {
      throw;
    } catch (const Error& error) {
      outcome.code = error.code();
      outcome.message = error.what();
    } catch (const std::bad_alloc&) {
      outcome.code = ErrorCode::kOutOfMemory;
      outcome.message = "out of memory";
    } catch (const std::system_error& error) {  // of threads and locks: the system has no more of them
      outcome.code = ErrorCode::kOutOfMemory;
      outcome.message = Message("the system refused a thread: ", error.what());
    } catch (const std::exception& error) {
      outcome.message = error.what();
    }
  } catch (...) {  // no memory for the message, or not an exception class: the code says enough
  }
  return outcome;
}

}  // namespace nextscale
