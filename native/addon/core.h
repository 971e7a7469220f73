// One open engine, a model's or that of a tokenizer alone, shared by its JavaScript handles and by the operations in
// flight. JavaScript thread only.
#pragma once

#include <napi.h>

#include <functional>
#include <initializer_list>
#include <memory>

#include "native/addon/environment.h"
#include "native/generate/engine.h"

namespace nextscale::addon {

class Core {
 public:
  Core(std::shared_ptr<Environment> environment, std::unique_ptr<Engine> engine);
  Core(std::shared_ptr<Environment> environment, std::unique_ptr<TokenizerEngine> tokenizer);
  ~Core();  // closes the engine in the background
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  Environment& environment() const { return *environment_; }
  bool disposed() const { return owner_ == nullptr; }
  bool is_model() const { return engine_ != nullptr; }
  Engine& engine() const;              // of a model; throws Error(kDisposed)
  TokenizerEngine& tokenizer() const;  // throws Error(kDisposed)
  // From now on disposed; whoever drops the result closes the engine.
  std::shared_ptr<void> Take() { return std::move(owner_); }
  // Closes it in the background: a promise that resolves then.
  static Napi::Promise Dispose(Napi::Env env, const std::shared_ptr<Core>& core);

 private:
  std::shared_ptr<Environment> environment_;
  std::shared_ptr<void> owner_;  // of what the pointers name
  Engine* engine_ = nullptr;
  TokenizerEngine* tokenizer_ = nullptr;
};

// Starts a job of the engine: a NativeJob of the contract. `kept` stays alive until its end: the arrays that it fills.
Napi::Object StartJob(Napi::Env env, const std::shared_ptr<Core>& core, std::initializer_list<Napi::Value> kept,
                      const std::function<std::shared_ptr<CancelFlag>(Done)>& start);

}  // namespace nextscale::addon
