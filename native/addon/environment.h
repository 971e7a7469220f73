// Everything that one JavaScript environment (the main thread, or one worker) owns here, and its orderly end.
//
// Only the environment's JavaScript thread touches these objects. Whatever works elsewhere holds the mailbox alone.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "native/addon/async.h"
#include "native/addon/error_map.h"
#include "native/base/outcome.h"

namespace nextscale {
class Trainer;
}

namespace nextscale::addon {

class Core;

// Something in flight that will call back: a generation, a job, a load, a disposal.
struct Operation {
  Napi::FunctionReference callback;  // progress or events; may be empty
  std::optional<Napi::Promise::Deferred> deferred;
  std::vector<Napi::ObjectReference> kept;  // what the work needs: typed arrays that it fills
  std::shared_ptr<void> holds;              // what must not end before: an open engine
};

class Environment {
 public:
  // Called once, when the addon is loaded; installs itself as the environment's instance data.
  static void Install(Napi::Env env);
  static std::shared_ptr<Environment> Of(Napi::Env env);
  explicit Environment(Napi::Env env);

  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }

  // The classes that JavaScript sees, by name.
  void Define(const char* name, Napi::Function constructor) { classes_[name] = Napi::Persistent(constructor); }
  Napi::FunctionReference& Constructor(const char* name) { return classes_.at(name); }
  // What an object is being made for (Handle::New): constructors refuse everybody else.
  std::shared_ptr<void> under_construction;

  // While any operation is registered the process stays alive.
  uint64_t Begin(Operation operation);
  Operation* Find(uint64_t id);
  Operation Take(uint64_t id);

  // Begins an operation and calls start(id); takes it back should that throw.
  template <typename Start>
  void BeginWith(Operation operation, const Start& start) {
    const uint64_t id = Begin(std::move(operation));
    try {
      start(id);
    } catch (...) {
      Take(id);
      throw;
    }
  }

  // Runs work(id) on a thread of its own. The promise resolves to what finish(env, result) makes of its result on the
  // JavaScript thread, or rejects with what it threw.
  template <typename Work, typename Finish>
  Napi::Promise Await(Napi::Env env, Operation operation, Work work, Finish finish);

  // A completion callback, for any thread: settles the promise of an operation and forgets it.
  Done SettleLater(uint64_t id) const;

  // Runs `work` on a thread of its own, which is joined here. Throws Error(kOutOfMemory) when no thread can be had.
  void RunInBackground(std::function<void()> work);

  // Destroys an engine without blocking, then calls `done` (may be empty) from there.
  void CloseInBackground(std::shared_ptr<void> engine, Done done);

  std::unordered_set<Core*> cores;
  std::unordered_set<Trainer*> trainers;

 private:
  void Settle(Napi::Env env, uint64_t id, const Outcome& outcome);
  // Closes every engine, waits for every thread. After it, nothing of ours runs in this environment.
  void End();

  napi_env env_;
  std::shared_ptr<Mailbox> mailbox_;
  std::unordered_map<std::string, Napi::FunctionReference> classes_;
  std::unordered_map<uint64_t, Operation> operations_;
  std::unordered_map<uint64_t, std::thread> threads_;
  uint64_t next_id_ = 1;
};

template <typename Work, typename Finish>
Napi::Promise Environment::Await(Napi::Env env, Operation operation, Work work, Finish finish) {
  using Result = std::invoke_result_t<Work&, uint64_t>;
  const auto deferred = Napi::Promise::Deferred::New(env);
  operation.deferred = deferred;
  BeginWith(std::move(operation), [&](uint64_t id) {
    RunInBackground([mailbox = mailbox_, id, work = std::move(work), finish = std::move(finish)]() mutable {
      // Shared with the task: should the environment end first, the result dies with the dropped task.
      const auto result = std::make_shared<std::optional<Result>>();
      Outcome outcome;
      try {
        result->emplace(work(id));
      } catch (...) {
        outcome = FromCurrentException();
      }
      mailbox->Post([id, result, outcome, finish = std::move(finish)](Napi::Env posted_env, Environment& environment) {
        const Operation done = environment.Take(id);
        if (outcome.ok) {
          done.deferred->Resolve(finish(posted_env, std::move(**result)));
        } else {
          done.deferred->Reject(ToJsError(posted_env, outcome).Value());
        }
      });
    });
  });
  return deferred.Promise();
}

}  // namespace nextscale::addon
