// The one exception type of the core, and the two checks that throw it.
//
// Rule: nothing in native/ may abort or exit. Every failure is an Error, and the addon turns it into a JavaScript
// error with the same code. NS_REQUIRE blames the caller (bad input); NS_CHECK blames us (a bug).
#pragma once

#include <cstddef>
#include <exception>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace nextscale {

enum class ErrorCode {
  kInvalidArgument,    // an argument is out of its range
  kInvalidCheckpoint,  // a file does not hold what the model needs
  kIo,                 // the operating system refused a read, a map or a write
  kOutOfMemory,        // memory could not be had
  kPoolExhausted,      // the KV pool has no room (now, or ever)
  kAborted,            // the caller cancelled
  kDisposed,           // the object was closed
  kNotFinite,          // NaN or infinity where a number was needed
  kDeviceUnavailable,  // no such device, or it cannot be used
  kDeviceLost,         // something failed on the device; the model is of no use any more, the process is
  kInternal,           // a bug in nextscale
};

// Stable name of a code, as JavaScript sees it: "INVALID_ARGUMENT", ...
std::string_view CodeName(ErrorCode code);

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  ErrorCode code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
};

// Concatenates anything printable into one message.
template <typename... Parts>
std::string Message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws Error(kInvalidCheckpoint) unless low <= value <= high.
void RequireRange(std::string_view what, size_t value, size_t low, size_t high);

}  // namespace nextscale

#define NS_REQUIRE(condition, code, ...)                                       \
  do {                                                                         \
    if (!(condition)) throw ::nextscale::Error(code, ::nextscale::Message(__VA_ARGS__)); \
  } while (false)

#define NS_CHECK(condition)                                                                     \
  do {                                                                                          \
    if (!(condition))                                                                           \
      throw ::nextscale::Error(::nextscale::ErrorCode::kInternal,                               \
                               ::nextscale::Message("internal check failed: " #condition " (",  \
                                                    __FILE__, ":", __LINE__, ")"));             \
  } while (false)
