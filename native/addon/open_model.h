// Opening a model or a tokenizer: every tensor's range is checked, and the weights are packed, on
// a thread of its own.
#pragma once

#include <napi.h>

namespace nextscale::addon {

// openModel(spec, onProgress) and openTokenizer(spec) of the contract.
Napi::Value OpenModel(const Napi::CallbackInfo& info);
Napi::Value OpenTokenizer(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
