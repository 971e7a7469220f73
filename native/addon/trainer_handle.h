// A trainer as JavaScript holds it (NativeTrainer of the contract).
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "native/addon/environment.h"
#include "native/train/trainer.h"

namespace nextscale::addon {

class TrainerHandle : public Napi::ObjectWrap<TrainerHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Object Wrap(Napi::Env env, std::shared_ptr<Trainer> trainer);

  explicit TrainerHandle(const Napi::CallbackInfo& info);
  ~TrainerHandle() override;

 private:
  // Runs `work` on a thread of its own; the promise settles with what `finish` makes of it on the JavaScript thread.
  using Finish = std::function<Napi::Value(Napi::Env)>;
  Napi::Value Start(Napi::Env env, Napi::Value kept, const std::function<void(Trainer&)>& work, Finish finish);
  Trainer& trainer() const;      // throws Error(kDisposed)
  Trainer& IdleTrainer() const;  // throws Error(kInvalidArgument) while a call is in flight

  Napi::Value Parameters(const Napi::CallbackInfo& info);
  Napi::Value MemoryBytes(const Napi::CallbackInfo& info);
  Napi::Value Steps(const Napi::CallbackInfo& info);
  void SetSteps(const Napi::CallbackInfo& info, const Napi::Value& value);
  Napi::Value Step(const Napi::CallbackInfo& info);
  Napi::Value Evaluate(const Napi::CallbackInfo& info);
  Napi::Value Logits(const Napi::CallbackInfo& info);
  void Read(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<Trainer> trainer_;  // null after Dispose
  // Shared with the call in flight, which may outlive the handle.
  std::shared_ptr<bool> busy_ = std::make_shared<bool>(false);
};

// openTrainer(spec) and trainerBytes(spec) of the contract.
Napi::Value OpenTrainer(const Napi::CallbackInfo& info);
Napi::Value JsTrainerBytes(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
