// C++ failures as JavaScript errors. Every error that leaves the addon has a `code`; lib/errors.ts makes classes of
// them.
#pragma once

#include <napi.h>

#include "native/base/outcome.h"
#include "native/generate/results.h"

namespace nextscale::addon {

// An Error with the message and `code` (CodeName) of what has failed elsewhere.
Napi::Error ToJsError(Napi::Env env, const Outcome& failure);

// The exception that is being handled; a PoolError also has neededBytes, availableBytes and deepestFit.
Napi::Error CurrentJsError(Napi::Env env);

// Runs one call from JavaScript; whatever it throws becomes a JavaScript error.
template <typename Body>
auto Translated(Napi::Env env, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw CurrentJsError(env);
  }
}

}  // namespace nextscale::addon
