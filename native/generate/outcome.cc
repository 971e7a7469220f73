#include "native/generate/outcome.h"

#include <new>
#include <utility>

namespace nextscale {

EndResult Failed(ErrorCode code, std::string message) {
  EndResult result;
  result.ok = false;
  result.code = code;
  result.message = std::move(message);
  return result;
}

EndResult FromCurrentException() noexcept {
  EndResult result;
  result.ok = false;
  try {
    try {
      throw;
    } catch (const Error& error) {
      result.code = error.code();
      result.message = error.what();
    } catch (const std::bad_alloc&) {
      result.code = ErrorCode::kOutOfMemory;
      result.message = "out of memory";
    } catch (const std::exception& error) {
      result.message = error.what();
    }
  } catch (...) {  // no memory for the message, or not an exception class: the code says enough
  }
  return result;
}

}  // namespace nextscale
