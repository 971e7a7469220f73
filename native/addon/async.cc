#include "native/addon/async.h"

#include <utility>

#include "native/addon/error_map.h"

namespace nextscale::addon {
namespace {

// What a callback has thrown is uncaught, as in any other event. In a worker that is being terminated nothing can be
// told any more, and to ask for the error throws again.
void ReportUncaught(Napi::Env env, const Napi::Error& error) {
  try {
    napi_fatal_exception(env, error.Value());
  } catch (const Napi::Error&) {
    return;
  }
}

}  // namespace

std::shared_ptr<Mailbox> Mailbox::Open(Napi::Env env, Environment& owner) {
  auto mailbox = std::make_shared<Mailbox>();
  mailbox->owner_ = &owner;
  // The finalizer holds the mailbox until the thread-safe function is gone: calls may be queued in it until then.
  mailbox->wake_ = ThreadSafe::New(env, "nextscale", 0, 1, mailbox.get(), [mailbox](Napi::Env, void*, Mailbox*) {});
  mailbox->wake_.Unref(env);
  return mailbox;
}

void Mailbox::Post(Task task) {
  const std::lock_guard lock(mutex_);
  if (closed()) return;
  tasks_.push_back(std::move(task));
  wake_.NonBlockingCall();
}

void Mailbox::KeepAlive(Napi::Env env, bool alive) {
  if (closed()) return;
  if (alive) {
    wake_.Ref(env);
  } else {
    wake_.Unref(env);
  }
}

void Mailbox::Close() {
  std::deque<Task> dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_relaxed);
    dropped.swap(tasks_);
  }
}

void Mailbox::RunNext(Napi::Env env, Napi::Function, Mailbox* mailbox, void*) {
  if (static_cast<napi_env>(env) == nullptr) return;  // the environment is going down
  Task task;
  {
    const std::lock_guard lock(mailbox->mutex_);
    if (mailbox->closed() || mailbox->tasks_.empty()) return;
    task = std::move(mailbox->tasks_.front());
    mailbox->tasks_.pop_front();
  }
  try {
    task(env, *mailbox->owner_);
  } catch (const Napi::Error& error) {
    ReportUncaught(env, error);
  } catch (...) {
    ReportUncaught(env, CurrentJsError(env));
  }
}

}  // namespace nextscale::addon
