// An open model as JavaScript holds it (NativeModel of the contract).
#pragma once

#include <napi.h>

#include "native/addon/core.h"
#include "native/addon/handle.h"

namespace nextscale::addon {

class ModelHandle : public Handle<ModelHandle, Core> {
 public:
  static constexpr const char* kName = "NativeModel";
  static Napi::Function Define(Napi::Env env);
  explicit ModelHandle(const Napi::CallbackInfo& info) : Handle(info) {}

 private:
  Napi::Value Generate(const Napi::CallbackInfo& info);
  Napi::Value Tokenizer(const Napi::CallbackInfo& info);
  void SetPreviewMatrix(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value PeakBytes(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  Napi::ObjectReference tokenizer_;  // once it was asked for
  Napi::ObjectReference disposal_;   // the promise, once there is one
};

}  // namespace nextscale::addon
