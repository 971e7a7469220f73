// A generation as JavaScript holds it (NativeGeneration of the contract). Its events come through the callback that
// NativeModel.generate was given; dropping the handle releases the generation.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>

#include "native/addon/core.h"
#include "native/addon/handle.h"

namespace nextscale::addon {

class GenerationHandle : public Handle<GenerationHandle, Core> {
 public:
  static constexpr const char* kName = "NativeGeneration";
  static Napi::Function Define(Napi::Env env);

  // Starts a generation of the model; events go to on_event, on the JavaScript thread, and the last one is its end.
  static Napi::Value Start(const std::shared_ptr<Core>& core, Request request, Napi::Function on_event);

  explicit GenerationHandle(const Napi::CallbackInfo& info) : Handle(info) {}
  ~GenerationHandle() override;

 private:
  Napi::Value Id(const Napi::CallbackInfo& info);
  void SetDepth(const Napi::CallbackInfo& info);
  void Cancel(const Napi::CallbackInfo& info);
  Napi::Value Decode(const Napi::CallbackInfo& info);

  uint64_t id_ = 0;  // the engine's; 0 before Start
  size_t num_images_ = 0;
};

}  // namespace nextscale::addon
