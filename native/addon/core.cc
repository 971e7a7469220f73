#include "native/addon/core.h"

#include <utility>

#include "native/base/error.h"

namespace nextscale::addon {

Core::Core(std::shared_ptr<Environment> environment, std::unique_ptr<Engine> engine)
    : environment_(std::move(environment)), engine_(engine.get()), tokenizer_(&engine->tokenizer()) {
  owner_ = std::shared_ptr<Engine>(std::move(engine));
  environment_->cores.insert(this);
}

Core::Core(std::shared_ptr<Environment> environment, std::unique_ptr<TokenizerEngine> tokenizer)
    : environment_(std::move(environment)), tokenizer_(tokenizer.get()) {
  owner_ = std::shared_ptr<TokenizerEngine>(std::move(tokenizer));
  environment_->cores.insert(this);
}

Core::~Core() {
  environment_->cores.erase(this);
  if (!disposed()) environment_->CloseInBackground(Take(), nullptr);
}

Engine& Core::engine() const {
  NS_REQUIRE(!disposed(), ErrorCode::kDisposed, "the model was disposed");
  NS_CHECK(is_model());
  return *engine_;
}

TokenizerEngine& Core::tokenizer() const {
  NS_REQUIRE(!disposed(), ErrorCode::kDisposed, "the ", is_model() ? "model" : "tokenizer", " was disposed");
  return *tokenizer_;
}

Napi::Promise Core::Dispose(Napi::Env env, const std::shared_ptr<Core>& core) {
  Environment& environment = core->environment();
  const auto deferred = Napi::Promise::Deferred::New(env);
  const uint64_t operation = environment.Begin({.callback = {}, .deferred = deferred, .kept = {}, .holds = core});
  environment.CloseInBackground(core->Take(), environment.SettleLater(operation));
  return deferred.Promise();
}

Napi::Object StartJob(Napi::Env env, const std::shared_ptr<Core>& core, std::initializer_list<Napi::Value> kept,
                      const std::function<std::shared_ptr<CancelFlag>(Done)>& start) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  Operation operation{.callback = {}, .deferred = deferred, .kept = {}, .holds = core};
  for (const Napi::Value& value : kept) operation.kept.push_back(Napi::Persistent(value.As<Napi::Object>()));
  Napi::Object job = Napi::Object::New(env);
  Environment& environment = core->environment();
  environment.BeginWith(std::move(operation), [&](uint64_t id) {
    const std::shared_ptr<CancelFlag> flag = start(environment.SettleLater(id));
    job.Set("cancel", Napi::Function::New(
                          env, [flag](const Napi::CallbackInfo&) { flag->Set(); }, "cancel"));
  });
  job.Set("done", deferred.Promise());
  return job;
}

}  // namespace nextscale::addon
