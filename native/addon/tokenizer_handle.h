// A tokenizer as JavaScript holds it (NativeTokenizer of the contract): one alone, or a model's.
#pragma once

#include <napi.h>

#include "native/addon/core.h"
#include "native/addon/handle.h"

namespace nextscale::addon {

class TokenizerHandle : public Handle<TokenizerHandle, Core> {
 public:
  static constexpr const char* kName = "NativeTokenizer";
  static Napi::Function Define(Napi::Env env);
  explicit TokenizerHandle(const Napi::CallbackInfo& info) : Handle(info) {}

 private:
  Napi::Value Decode(const Napi::CallbackInfo& info);
  Napi::Value Encode(const Napi::CallbackInfo& info);
  Napi::Value FeatureMap(const Napi::CallbackInfo& info);
  Napi::Value EncodeTrace(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  Napi::ObjectReference disposal_;  // the promise, once there is one
};

}  // namespace nextscale::addon
