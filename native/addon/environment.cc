#include "native/addon/environment.h"

#include <system_error>
#include <utility>

#include "native/addon/core.h"
#include "native/addon/error_map.h"
#include "native/base/error.h"
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

void Environment::Settle(Napi::Env env, uint64_t id, const Outcome& outcome) {
  const Operation operation = Take(id);
  if (outcome.ok) {
    operation.deferred->Resolve(env.Undefined());
  } else {
    operation.deferred->Reject(ToJsError(env, outcome).Value());
  }
}

Done Environment::SettleLater(uint64_t id) const {
  return [mailbox = mailbox_, id](Outcome outcome) {
    mailbox->Post([id, outcome = std::move(outcome)](Napi::Env env, Environment& environment) {
      environment.Settle(env, id, outcome);
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

void Environment::CloseInBackground(std::shared_ptr<void> engine, Done done) {
  // Shared by the copies of the function: the first to run closes it.
  const auto holder = std::make_shared<std::shared_ptr<void>>(std::move(engine));
  const auto close = [holder, done = std::move(done)] {
    holder->reset();
    if (done) done(Outcome{});
  };
  try {
    RunInBackground(close);
  } catch (const Error&) {
    close();  // no thread to be had: better late than leaked
  }
}

void Environment::End() {
  mailbox_->Close();
  for (Core* core : cores) core->Take().reset();
  for (Trainer* trainer : trainers) trainer->Stop();
  for (auto& [id, thread] : threads_) thread.join();
  threads_.clear();
  operations_.clear();
  classes_.clear();
}

}  // namespace nextscale::addon
