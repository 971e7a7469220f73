#include "native/base/error.h"

namespace nextscale {

std::string_view CodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "INVALID_ARGUMENT";
    case ErrorCode::kInvalidCheckpoint: return "INVALID_CHECKPOINT";
    case ErrorCode::kIo: return "IO";
    case ErrorCode::kOutOfMemory: return "OUT_OF_MEMORY";
    case ErrorCode::kPoolExhausted: return "POOL_EXHAUSTED";
    case ErrorCode::kAborted: return "ABORTED";
    case ErrorCode::kDisposed: return "DISPOSED";
    case ErrorCode::kNotFinite: return "NOT_FINITE";
    case ErrorCode::kDeviceUnavailable: return "DEVICE_UNAVAILABLE";
    case ErrorCode::kDeviceLost: return "DEVICE_LOST";
    case ErrorCode::kInternal: return "INTERNAL";
  }
  return "INTERNAL";
}

void RequireRange(std::string_view what, size_t value, size_t low, size_t high) {
  NS_REQUIRE(value >= low && value <= high, ErrorCode::kInvalidCheckpoint, what, " is ", value, "; expected ", low,
             " to ", high);
}

}  // namespace nextscale
