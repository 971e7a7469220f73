// C++ failures as JavaScript errors. Every error that leaves the addon has a `code`; lib/errors.ts makes classes of
// them.
#pragma once

#include <napi.h>

#include <exception>
#include <string>

#include "native/base/error.h"
#include "native/generate/engine.h"

namespace nextscale::addon {

// An Error with the message and `code` (CodeName).
Napi::Error ToJsError(Napi::Env env, ErrorCode code, const std::string& message);

// The same for what has failed elsewhere; with kPoolExhausted also neededBytes, availableBytes and deepestFit.
Napi::Error ToJsError(Napi::Env env, const EndResult& result);

// The exception that is being handled, as a result that can travel to another thread.
EndResult CurrentFailure();

// Runs one call from JavaScript; whatever it throws becomes a JavaScript error.
template <typename Body>
auto Translated(Napi::Env env, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw ToJsError(env, CurrentFailure());
  }
}

}  // namespace nextscale::addon
