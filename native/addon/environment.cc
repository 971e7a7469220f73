#include "native/addon/environment.h"

#include <system_error>
#include <utility>

#include "native/addon/error_map.h"
#include "native/train/trainer.h"

namespace nextscale::addon {
namespace {

// Instance data must be a plain object of its own; handles share the environment and may outlive it for a moment.
struct InstanceData {
  std::shared_ptr<Environment> environment;
};

}  // namespace

Environment::Environment(Napi::Env env) : env_(env), mailbox_(Mailbox::Open(env, *this)) {}

void Environment::Install(Napi::Env env) {
  auto environment = std::make_shared<Environment>(env);
  // Hooks run in reverse order: this one before the thread-safe function's own.
  env.AddCleanupHook([environment] { environment->End(); });
  env.SetInstanceData(std::make_unique<InstanceData>(InstanceData{std::move(environment)}).release());
}

std::shared_ptr<Environment> Environment::Of(Napi::Env env) { return env.GetInstanceData<InstanceData>()->environment; }

uint64_t Environment::Begin(Operation operation) {
  const uint64_t id = next_id_++;
  operations_.emplace(id, std::move(operation));
  if (operations_.size() == 1) mailbox_->KeepAlive(env_, true);
  return id;
}

Operation* Environment::Find(uint64_t id) {
  const auto found = operations_.find(id);
  return found == operations_.end() ? nullptr : &found->second;
}

Operation Environment::Take(uint64_t id) {
  const auto found = operations_.find(id);
  NS_CHECK(found != operations_.end());
  Operation operation = std::move(found->second);
  operations_.erase(found);
  if (operations_.empty()) mailbox_->KeepAlive(env_, false);
  return operation;
}

void Environment::Settle(Napi::Env env, uint64_t id, const EndResult& result) {
  const Operation operation = Take(id);
  if (result.ok) {
    operation.deferred->Resolve(env.Undefined());
  } else {
    operation.deferred->Reject(ToJsError(env, result).Value());
  }
}

Done Environment::SettleLater(uint64_t id) const {
  return [mailbox = mailbox_, id](EndResult result) {
    mailbox->Post([id, result = std::move(result)](Napi::Env env, Environment& environment) {
      environment.Settle(env, id, result);
    });
  };
}

void Environment::RunInBackground(std::function<void()> work) {
  const uint64_t id = next_id_++;
  try {
    threads_.emplace(id, std::thread([mailbox = mailbox_, id, work = std::move(work)]() mutable {
                       work();
                       work = nullptr;  // what it holds dies here, not with the thread object
                       mailbox->Post([id](Napi::Env, Environment& environment) {
                         const auto thread = environment.threads_.find(id);
                         thread->second.join();
                         environment.threads_.erase(thread);
                       });
                     }));
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::kOutOfMemory, Message("no thread could be started: ", error.what()));
  }
}

void Environment::CloseInBackground(std::unique_ptr<Engine> engine, Done done) {
  const auto close = [holder = std::make_shared<std::unique_ptr<Engine>>(std::move(engine)), done = std::move(done)] {
    holder->reset();
    if (done) done(EndResult{});
  };
  try {
    RunInBackground(close);
  } catch (const Error&) {
    close();  // no thread to be had: better late than leaked
  }
}

void Environment::End() {
  mailbox_->Close();
  for (ModelCore* core : cores) core->TakeEngine().reset();
  for (Trainer* trainer : trainers) trainer->Stop();
  for (auto& [id, thread] : threads_) thread.join();
  threads_.clear();
  operations_.clear();
  model_class.Reset();
  generation_class.Reset();
  trainer_class.Reset();
}

ModelCore::ModelCore(std::shared_ptr<Environment> environment, std::unique_ptr<Engine> engine, ModelConfig config)
    : environment_(std::move(environment)), engine_(std::move(engine)), config_(std::move(config)) {
  environment_->cores.insert(this);
}

ModelCore::~ModelCore() {
  environment_->cores.erase(this);
  if (engine_ != nullptr) environment_->CloseInBackground(std::move(engine_), nullptr);
}

Engine& ModelCore::engine() const {
  NS_REQUIRE(!disposed(), ErrorCode::kDisposed, "the model was disposed");
  return *engine_;
}

Napi::Promise StartJob(Napi::Env env, const std::shared_ptr<ModelCore>& core, std::initializer_list<Napi::Value> kept,
                       const std::function<void(Done)>& start) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  Operation operation{.callback = {}, .deferred = deferred, .kept = {}, .core = core};
  for (const Napi::Value& value : kept) operation.kept.push_back(Napi::Persistent(value.As<Napi::Object>()));
  Environment& environment = core->environment();
  const uint64_t id = environment.Begin(std::move(operation));
  try {
    start(environment.SettleLater(id));
  } catch (...) {
    environment.Take(id);
    throw;
  }
  return deferred.Promise();
}

}  // namespace nextscale::addon
