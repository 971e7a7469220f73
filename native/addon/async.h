// How work on other threads reaches the JavaScript thread of one environment.
//
// One thread-safe function per environment, guarded by a lock of our own: after Close nothing touches it any more, so
// an engine thread can never race with the environment's teardown.
#pragma once

#include <napi.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace nextscale::addon {

class Environment;

class Mailbox {
 public:
  // Runs on the JavaScript thread. It may be dropped on any thread, so it holds no JavaScript values.
  using Task = std::function<void(Napi::Env, Environment&)>;

  // JavaScript thread. `owner` outlives the open mailbox.
  static std::shared_ptr<Mailbox> Open(Napi::Env env, Environment& owner);

  // Any thread. Tasks run in the order of posting, one per turn; after Close they are dropped.
  void Post(Task task);
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  // JavaScript thread. Whether the mailbox keeps the process alive; not at first.
  void KeepAlive(Napi::Env env, bool alive);
  void Close();

 private:
  static void RunNext(Napi::Env env, Napi::Function, Mailbox* mailbox, void*);
  using ThreadSafe = Napi::TypedThreadSafeFunction<Mailbox, void, &Mailbox::RunNext>;

  Environment* owner_ = nullptr;
  ThreadSafe wake_;
  std::mutex mutex_;
  std::deque<Task> tasks_;
  std::atomic<bool> closed_{false};  // written under mutex_
};

}  // namespace nextscale::addon
