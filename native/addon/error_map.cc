#include "native/addon/error_map.h"

#include <new>
#include <system_error>

#include "native/generate/outcome.h"

namespace nextscale::addon {
namespace {

EndResult Failure(ErrorCode code, const char* message) {
  EndResult result;
  result.ok = false;
  result.code = code;
  result.message = message;
  return result;
}

}  // namespace

Napi::Error ToJsError(Napi::Env env, ErrorCode code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, std::string(CodeName(code))));
  return error;
}

Napi::Error ToJsError(Napi::Env env, const EndResult& result) {
  Napi::Error error = ToJsError(env, result.code, result.message);
  if (result.code == ErrorCode::kPoolExhausted) {
    error.Set("neededBytes", Napi::Number::New(env, static_cast<double>(result.needed_bytes)));
    error.Set("availableBytes", Napi::Number::New(env, static_cast<double>(result.available_bytes)));
    error.Set("deepestFit", Napi::Number::New(env, static_cast<double>(result.deepest_fit)));
  }
  return error;
}

EndResult CurrentFailure() {
  try {
    throw;
  } catch (const PoolError& error) {
    return error.result();
  } catch (const Error& error) {
    return Failure(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return Failure(ErrorCode::kOutOfMemory, "memory could not be had");
  } catch (const std::system_error& error) {  // of threads and locks: the system has no more of them
    return Failure(ErrorCode::kOutOfMemory, Message("the system refused a thread: ", error.what()).c_str());
  } catch (const std::exception& error) {
    return Failure(ErrorCode::kInternal, error.what());
  } catch (...) {
    return Failure(ErrorCode::kInternal, "unknown failure");
  }
}

}  // namespace nextscale::addon
