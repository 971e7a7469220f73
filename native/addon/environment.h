// Everything that one JavaScript environment (the main thread, or one worker) owns here, and its orderly end.
//
// Only the environment's JavaScript thread touches these objects. Whatever works elsewhere holds the mailbox alone.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "native/addon/async.h"
#include "native/generate/engine.h"

namespace nextscale {
class Trainer;
}

namespace nextscale::addon {

class ModelCore;

// Something in flight that will call back: a generation, a job, a load, a disposal.
struct Operation {
  Napi::FunctionReference callback;  // progress or events; may be empty
  std::optional<Napi::Promise::Deferred> deferred;
  std::vector<Napi::ObjectReference> kept;  // what the work needs: typed arrays that it fills
  std::shared_ptr<ModelCore> core;          // keeps the model open
};

class Environment {
 public:
  // Called once, when the addon is loaded; installs itself as the environment's instance data.
  static void Install(Napi::Env env);
  static std::shared_ptr<Environment> Of(Napi::Env env);
  explicit Environment(Napi::Env env);

  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }

  // While any operation is registered the process stays alive.
  uint64_t Begin(Operation operation);
  Operation* Find(uint64_t id);
  Operation Take(uint64_t id);

  // A completion callback, for any thread: settles the promise of an operation and forgets it.
  Done SettleLater(uint64_t id) const;

  // Runs `work` on a thread of its own, which is joined here. Throws Error(kOutOfMemory) when no thread can be had.
  void RunInBackground(std::function<void()> work);

  // Destroys the engine without blocking, then calls `done` (may be empty) from there.
  void CloseInBackground(std::unique_ptr<Engine> engine, Done done);

  Napi::FunctionReference model_class, generation_class, trainer_class;
  // What a class is being made for: its constructor refuses everybody else.
  std::shared_ptr<ModelCore> under_construction;
  std::shared_ptr<Trainer> trainer_under_construction;
  std::unordered_set<ModelCore*> cores;
  std::unordered_set<Trainer*> trainers;

 private:
  void Settle(Napi::Env env, uint64_t id, const EndResult& result);
  // Closes every engine, waits for every thread. After it, nothing of ours runs in this environment.
  void End();

  napi_env env_;
  std::shared_ptr<Mailbox> mailbox_;
  std::unordered_map<uint64_t, Operation> operations_;
  std::unordered_map<uint64_t, std::thread> threads_;
  uint64_t next_id_ = 1;
};

// One open model, shared by its JavaScript handles and by the operations in flight. JavaScript thread only.
class ModelCore {
 public:
  ModelCore(std::shared_ptr<Environment> environment, std::unique_ptr<Engine> engine, ModelConfig config);
  ~ModelCore();  // closes the engine in the background
  ModelCore(const ModelCore&) = delete;
  ModelCore& operator=(const ModelCore&) = delete;

  const ModelConfig& config() const { return config_; }
  Environment& environment() const { return *environment_; }
  bool disposed() const { return engine_ == nullptr; }
  Engine& engine() const;  // throws Error(kDisposed)
  std::unique_ptr<Engine> TakeEngine() { return std::move(engine_); }

 private:
  std::shared_ptr<Environment> environment_;
  std::unique_ptr<Engine> engine_;
  ModelConfig config_;
};

// Starts a job of the engine: a promise that settles with it. `kept` stays alive until then: the arrays that it fills.
Napi::Promise StartJob(Napi::Env env, const std::shared_ptr<ModelCore>& core, std::initializer_list<Napi::Value> kept,
                       const std::function<void(Done)>& start);

}  // namespace nextscale::addon
