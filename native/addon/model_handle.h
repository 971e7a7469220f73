// An open model as JavaScript holds it (NativeModel of the contract).
#pragma once

#include <napi.h>

#include <memory>

#include "native/addon/environment.h"

namespace nextscale::addon {

class ModelHandle : public Napi::ObjectWrap<ModelHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Object Wrap(std::shared_ptr<ModelCore> core);

  explicit ModelHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value Generate(const Napi::CallbackInfo& info);
  Napi::Value Decode(const Napi::CallbackInfo& info);
  Napi::Value Encode(const Napi::CallbackInfo& info);
  Napi::Value EncodeTrace(const Napi::CallbackInfo& info);
  void SetPreviewMatrix(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value PeakBytes(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<ModelCore> core_;
  Napi::ObjectReference disposal_;  // the promise, once there is one
};

}  // namespace nextscale::addon
