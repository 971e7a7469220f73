#include "native/addon/error_map.h"

#include <string>

namespace nextscale::addon {

Napi::Error ToJsError(Napi::Env env, const Outcome& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, std::string(CodeName(failure.code))));
  return error;
}

Napi::Error CurrentJsError(Napi::Env env) {
  try {
    throw;
  } catch (const PoolError& refused) {
    const GenerationEnd& refusal = refused.refusal();
    Napi::Error error = ToJsError(env, refusal);
    error.Set("neededBytes", Napi::Number::New(env, static_cast<double>(refusal.needed_bytes)));
    error.Set("availableBytes", Napi::Number::New(env, static_cast<double>(refusal.available_bytes)));
    error.Set("deepestFit", Napi::Number::New(env, static_cast<double>(refusal.deepest_fit)));
    return error;
  } catch (...) {
    return ToJsError(env, FromCurrentException());
  }
}

}  // namespace nextscale::addon
