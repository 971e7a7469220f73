// A trainer as JavaScript holds it (NativeTrainer of the contract).
#pragma once

#include <napi.h>

#include <memory>

#include "native/addon/handle.h"
#include "native/train/trainer.h"

namespace nextscale::addon {

class TrainerHandle : public Handle<TrainerHandle, Trainer> {
 public:
  static constexpr const char* kName = "NativeTrainer";
  static Napi::Function Define(Napi::Env env);

  explicit TrainerHandle(const Napi::CallbackInfo& info);
  ~TrainerHandle() override;

 private:
  // Runs work(trainer) on a thread of its own; the promise settles with what finish(env, result) makes of its result on
  // the JavaScript thread. `kept` is what the work fills, if anything.
  template <typename Work, typename Finish>
  Napi::Value Start(Napi::Env env, Napi::Value kept, Work work, Finish finish);
  Trainer& trainer() const;      // throws Error(kDisposed)
  Trainer& IdleTrainer() const;  // throws Error(kInvalidArgument) while a call is in flight

  Napi::Value Parameters(const Napi::CallbackInfo& info);
  Napi::Value MemoryBytes(const Napi::CallbackInfo& info);
  Napi::Value Steps(const Napi::CallbackInfo& info);
  void SetSteps(const Napi::Value& value);
  Napi::Value Step(const Napi::CallbackInfo& info);
  Napi::Value Evaluate(const Napi::CallbackInfo& info);
  Napi::Value Logits(const Napi::CallbackInfo& info);
  void Read(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Environment> environment_;
  // Whether a call is in flight; shared with it, since it may outlive the handle.
  std::shared_ptr<bool> busy_ = std::make_shared<bool>(false);
};

// openTrainer(spec) and trainerBytes(spec) of the contract.
Napi::Value OpenTrainer(const Napi::CallbackInfo& info);
Napi::Value JsTrainerBytes(const Napi::CallbackInfo& info);

}  // namespace nextscale::addon
